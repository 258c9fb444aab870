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
from saigen.training.layout import Block


class StepBuffers:
    """Applies the rule to a flat model. A model without buffers costs nothing."""

    def __init__(self, flat: FlatModel) -> None:
        """Take the model whose buffers are merged."""
        blocks = flat.layout.of_kind("buffer", "counter")
        self._flat = flat
        self._floats = flat.layout.of_kind("buffer")
        self._counters = flat.layout.of_kind("counter")
        start, stop = (blocks[0].start, blocks[-1].stop) if blocks else (0, 0)
        self._now = flat.values[start:stop]
        self._began = torch.empty_like(self._now)
        self._first = start

    def begin_step(self) -> None:
        """Remember the buffers as they stand, once a step."""
        if self._began.numel():
            self._began.copy_(self._now)

    def end_microbatch(self) -> None:
        """Write what the microbatch did to the buffers into the leaf, and undo it."""
        if not self._began.numel():
            return
        for block in self._floats:
            now, began = block.of(self._flat.values), self._of_start(block)
            change = block.of(self._flat.leaf)
            # Unchanged is zero even where infinity stands, as in an attention mask.
            torch.sub(now, began, out=change).masked_fill_(now == began, 0)
        for block in self._counters:
            block.of(self._flat.leaf).copy_(block.of(self._flat.values))
        self._now.copy_(self._began)

    def end_step(self, microbatches: int) -> None:
        """Take over the leaf's totals over the step's microbatches."""
        for block in self._floats:
            change = block.of(self._flat.leaf)
            block.of(self._flat.values).add_(change.div_(microbatches))
        for block in self._counters:
            block.of(self._flat.values).copy_(block.of(self._flat.leaf))

    def _of_start(self, block: Block) -> torch.Tensor:
        return self._began[block.start - self._first : block.stop - self._first].view(block.dtype)
