"""Plain DistributedDataParallel, whose all-reduce overlaps the backward pass.

For `agreement.reduction=allreduce`: as fast as torch can, in whatever order the library adds, so
the number of processes moves bits and stands in the recipe. Same face as `reduction.Reduction`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist

from saigen.training.flat import FlatModel
from saigen.training.processes import Group, partners_needed
from saigen.training.tree import share


class OverlappedReduction:
    """Sums a step's gradients over all processes while they are still being computed."""

    def __init__(self, flat: FlatModel, group: Group, microbatches: int) -> None:
        """Take the flat model, whose memory stays where it is."""
        self.mine = share(microbatches, group.rank, group.world)
        self._flat, self._world = flat, group.world
        self._sums = torch.zeros_like(flat.scalars)
        parallel = torch.nn.parallel.DistributedDataParallel
        self._parallel = parallel(flat.model) if group.world > 1 else None
        self.model: torch.nn.Module = self._parallel or flat.model

    def begin_step(self) -> None:
        """Empty gradients and sums."""
        self._flat.leaf.zero_()
        self._sums.zero_()

    def around(self, microbatch: int) -> AbstractContextManager[Any]:
        """What a microbatch's forward and backward pass stand in: only the last one is sent."""
        if self._parallel is not None and microbatch != self.mine[-1]:
            return self._parallel.no_sync()
        return nullcontext()

    def end_microbatch(self, microbatch: int) -> None:  # noqa: ARG002
        """Add the microbatch's sums; its gradients were added where they lie."""
        self._sums += self._flat.scalars

    def end_step(self) -> None:
        """Leave the totals in the leaf, on every process. DDP averages, so multiply back."""
        if self._world > 1:
            with partners_needed():
                dist.all_reduce(self._sums)
            for gradient in self._flat.gradients:
                gradient.mul_(self._world)
        self._flat.scalars.copy_(self._sums)

    def check(self) -> None:
        """Nothing is merged here that could not be."""
