"""Buffers: how BatchNorm's running statistics, and what else a model counts while it trains,
stay a function of the step and not of who computed which microbatch.

The rule. Every microbatch of a step starts from the buffers as they stood when the step began.
What a float buffer becomes is that start plus the mean of the microbatches' changes, summed along
the same tree as the gradients; what nobody changed stays what it was, to the bit. An integer or
boolean buffer takes the largest of the microbatches' values, so `num_batches_tracked` counts
steps, and BatchNorm moves once a step, towards the mean of the microbatches' statistics.
"""

import torch

from saigen.training.flat import FlatModel
from saigen.training.layout import Kind


class StepBuffers:
    """Applies the rule to a flat model. A model without buffers costs nothing."""

    def __init__(self, flat: FlatModel) -> None:
        """Take the model whose buffers are merged."""

        def of_kind(kind: Kind) -> list[tuple[torch.Tensor, ...]]:
            blocks = flat.layout.of_kind(kind)
            pairs = [(block.of(flat.values), block.of(flat.leaf)) for block in blocks]
            return [(now, leaf, torch.empty_like(now)) for now, leaf in pairs]

        self._floats, self._counters = of_kind("buffer"), of_kind("counter")

    def begin_step(self) -> None:
        """Remember the buffers as they stand, once a step."""
        for now, _, began in (*self._floats, *self._counters):
            began.copy_(now)

    def end_microbatch(self) -> None:
        """Write what the microbatch did to the buffers into the leaf, and undo it."""
        for now, change, began in self._floats:
            # Unchanged is zero even where infinity stands, as in an attention mask.
            torch.sub(now, began, out=change).masked_fill_(now == began, 0)
            now.copy_(began)
        for now, seen, began in self._counters:
            seen.copy_(now)
            now.copy_(began)

    def end_step(self, microbatches: int) -> None:
        """Take over the leaf's totals over the step's microbatches."""
        for now, change, _ in self._floats:
            now.add_(change.div_(microbatches))
        for now, largest, _ in self._counters:
            now.copy_(largest)
