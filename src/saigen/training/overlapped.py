"""One all-reduce for each part of the gradients, as soon as a backward pass has filled it.

For `reproducibility.reduction=allreduce`: as fast as torch can, in whatever order the library adds,
so the number of processes moves bits and stands in the recipe. Same face as `reduction.Reduction`.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from saigen.training.flat import FlatModel
from saigen.training.layout import Span
from saigen.training.processes import Group, partners_needed
from saigen.training.tree import share

_PART_BYTES = 25 << 20  # as DistributedDataParallel has it


class OverlappedReduction:
    """Sums a step's gradients over all processes while they are still being computed."""

    def __init__(self, flat: FlatModel, group: Group, microbatches: int) -> None:
        """Take the flat model, whose memory stays where it is."""
        self.mine = share(microbatches, group.rank, group.world)
        self._flat, self._several = flat, group.world > 1
        self._sums = torch.zeros_like(flat.scalars)
        self._parts: list[Tensor] = []  # in the order in which a backward pass fills them
        self._sizes: list[int] = []  # how many parameters lie in each
        self._part_of: dict[int, int] = {}
        self._waiting: list[int] = []
        self._pending: list[dist.Work] = []
        self._sending = False
        if self._several:
            self._cut()
            for parameter in flat.model.parameters():
                if id(parameter) in self._part_of:
                    parameter.register_post_accumulate_grad_hook(self._filled)  # type: ignore[no-untyped-call]

    def begin_step(self) -> None:
        """Empty gradients and sums; every process takes rank 0's buffers."""
        self._flat.grad_buffer.zero_()
        self._sums.zero_()
        self._waiting, self._sending = list(self._sizes), False
        if self._several:
            with partners_needed():
                for buffer in self._flat.model.buffers():
                    dist.broadcast(buffer, src=0)

    def begin_microbatch(self, microbatch: int) -> None:
        """Send what the last microbatch of this process fills."""
        self._sending = self._several and microbatch == self.mine[-1]

    def end_microbatch(self, microbatch: int) -> None:  # noqa: ARG002
        """Add the microbatch's sums; its gradients were added where they lie."""
        self._sums += self._flat.scalars

    def end_step(self) -> None:
        """Leave the totals in the gradient buffer, on every process."""
        if self._several:
            with partners_needed():
                self._send(len(self._parts))  # those of which a parameter had no gradient
                dist.all_reduce(self._sums)
                for work in self._pending:
                    work.wait()
            self._pending.clear()
        self._flat.scalars.copy_(self._sums)

    def check(self) -> None:
        """Nothing is merged here that could not be."""

    def _cut(self) -> None:
        """Cut the gradients at whole parameters, the last ones first."""
        own = dict(self._flat.model.named_parameters())
        spans = [span for span in self._flat.layout.spans if span.kind == "parameter"]
        run: list[Span] = []
        for span, before in zip(spans[::-1], [*spans[-2::-1], None], strict=True):
            run.append(span)
            self._part_of[id(own[span.name])] = len(self._parts)
            size = run[0].stop - span.start
            if before is None or before.dtype != span.dtype or size >= _PART_BYTES:
                part = self._flat.grad_buffer[span.start : run[0].stop].view(span.dtype)
                self._parts.append(torch.view_as_real(part) if part.is_complex() else part)
                self._sizes.append(len(run))
                run.clear()

    def _filled(self, parameter: Tensor) -> None:
        """A parameter has its gradient: send the parts that are whole, in their order, which is
        the same on every process.
        """
        if not self._sending:
            return
        self._waiting[self._part_of[id(parameter)]] -= 1
        whole = len(self._pending)
        while whole < len(self._parts) and self._waiting[whole] == 0:
            whole += 1
        with partners_needed():
            self._send(whole)

    def _send(self, until: int) -> None:
        for part in self._parts[len(self._pending) : until]:
            work = dist.all_reduce(part, async_op=True)
            assert work is not None  # None is for processes outside the group
            self._pending.append(work)
