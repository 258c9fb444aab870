"""Reduction: one sum over a step's microbatches, with the same bits for any number of processes.

Each process adds its own microbatches along the fixed tree (`tree.py`) as far as they reach. Then
the unfinished sums are cut into slices, one owner each; owners finish the same tree, and the
slices are gathered. Communication moves bytes and never adds: library reductions choose their own
order, by size, algorithm and number of processes.

A process sends its sums once and receives the total once. With a power of two of processes and
of microbatches that is what a ring all-reduce moves; otherwise a process sends up to 2 log2(L)
sums instead of one.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from saigen.training.buffers import StepBuffers
from saigen.training.flat import FlatModel
from saigen.training.layout import Block
from saigen.training.processes import Group, partners_needed
from saigen.training.tree import Accumulator, Node, share, subtrees


class Reduction:
    """Sums the leaves of a flat model over the microbatches of a step.

    Memory: of l microbatches of its own, a process keeps log2(l) gradient buffers besides the
    model's; with several processes, the sums it sends and the slices it receives.
    """

    def __init__(
        self,
        flat: FlatModel,
        group: Group,
        microbatches: int,
        processes: dist.ProcessGroup | None = None,
    ) -> None:
        """`processes` are those that share the step: all of them, unless a test says otherwise.

        The flat model's flat buffers must be a multiple of 64 bytes times the number of processes.
        """
        assert group.world <= microbatches
        assert flat.layout.size % (64 * group.world) == 0
        self.mine = share(microbatches, group.rank, group.world)
        self._grad_buffer = flat.grad_buffer
        self._blocks = flat.layout.blocks
        self._buffers = StepBuffers(flat.reduced_buffers(), microbatches)
        self._free: list[Tensor] = []
        self._tree = Accumulator[Tensor](microbatches, self._add)
        self._at_last = False
        self._exchange = (
            _Exchange(flat, group, microbatches, processes) if group.world > 1 else None
        )

    def begin_step(self) -> None:
        """Empty the gradient buffer, and remember the buffers."""
        self._grad_buffer.zero_()
        self._buffers.begin_step()

    def begin_microbatch(self, microbatch: int) -> None:
        """Nothing is sent before the step ends."""

    def end_microbatch(self, microbatch: int) -> None:
        """Add the gradient buffer, which is one microbatch's now, and empty it for the next one."""
        self._buffers.end_microbatch()
        # The last sum may stay in the gradient buffer, where the total is wanted: one copy less.
        self._at_last = microbatch == self.mine[-1]
        self._tree.push(Node(0, microbatch), self._grad_buffer)
        if self._at_last:
            return
        node, value = self._tree.held[-1]
        if value is self._grad_buffer:
            kept = self._free.pop() if self._free else torch.empty_like(value)
            self._tree.held[-1] = (node, kept.copy_(value))
        self._grad_buffer.zero_()

    def end_step(self) -> None:
        """Leave the total of the step in the gradient buffer, on every process, and update the
        buffers.
        """
        sums = [value for _, value in self._tree.held]
        self._tree.held.clear()
        if self._exchange is not None:
            self._exchange.total(sums, self._grad_buffer)
        self._free += [value for value in sums if value is not self._grad_buffer]
        self._buffers.end_step()

    def check(self) -> None:
        """Refuse what could not be merged; waits for the device."""
        self._buffers.check()

    def _add(self, left: Tensor, right: Tensor) -> Tensor:
        """Add into the gradient buffer at the last microbatch and into the left sum before it;
        which one makes no difference to a sum of two.
        """
        into, spent = (right, left) if self._at_last else (left, right)
        _add_blocks(self._blocks, into, spent)
        if spent is not self._grad_buffer:
            self._free.append(spent)
        return into


class _Exchange:
    """Finishes the tree over the sums of all processes."""

    def __init__(
        self,
        flat: FlatModel,
        group: Group,
        microbatches: int,
        processes: dist.ProcessGroup | None,
    ) -> None:
        self._rank, self._world, self._processes = group.rank, group.world, processes
        self._microbatches = microbatches
        self._slice = flat.layout.size // group.world  # bytes
        start = group.rank * self._slice
        cuts = (block.within(start, start + self._slice) for block in flat.layout.blocks)
        self._blocks = tuple(cut for cut in cuts if cut is not None)
        ranks = range(group.world)
        nodes = [subtrees(microbatches, share(microbatches, r, group.world)) for r in ranks]
        self._nodes = [node for of_rank in nodes for node in of_rank]  # from left to right
        self._sent = [len(nodes[group.rank]) * self._slice] * group.world
        self._received = [len(of_rank) * self._slice for of_rank in nodes]
        self._outbox = flat.grad_buffer.new_empty(
            sum(self._sent) if len(nodes[group.rank]) > 1 else 0
        )
        # Gloo exchanges what lies with the processor
        self._by_host = flat.grad_buffer.is_cuda and dist.get_backend(processes) == "gloo"
        device = "cpu" if self._by_host else flat.grad_buffer.device
        self._inbox = flat.grad_buffer.new_empty(sum(self._received), device=device)

    def total(self, sums: list[Tensor], into: Tensor) -> None:
        """Write the sum of all processes' sums into a flat buffer; `sums` go from left to right."""
        outbox = self._packed(sums).to(self._inbox.device)
        with partners_needed():
            dist.all_to_all_single(
                self._inbox, outbox, self._received, self._sent, group=self._processes
            )
        tree = Accumulator[Tensor](self._microbatches, self._add)
        for node, value in zip(self._nodes, self._inbox.view(-1, self._slice), strict=True):
            tree.push(node, value)
        [(_, mine)] = tree.held
        whole = torch.empty_like(into, device="cpu") if self._by_host else into
        with partners_needed():
            self._gather(whole.view(self._world, self._slice), mine)
        if self._by_host:
            into.copy_(whole)

    def _gather(self, into: Tensor, mine: Tensor) -> None:
        """Collect all owners' slices, (world, slice) bytes. Gloo's own all-gather takes four times
        as long at 100 MB as sending the slices directly (169 against 41 ms, two processes).
        """
        if dist.get_backend(self._processes) != "gloo":
            dist.all_gather_single(into.view(-1), mine, group=self._processes)
            return
        into[self._rank].copy_(mine)
        pending = []
        for away in range(1, self._world):
            to, source = (self._rank + away) % self._world, (self._rank - away) % self._world
            pending.append(dist.isend(mine, group=self._processes, group_dst=to))
            pending.append(dist.irecv(into[source], group=self._processes, group_src=source))
        for transfer in pending:
            assert transfer is not None  # None is for processes outside the group
            transfer.wait()

    def _packed(self, sums: list[Tensor]) -> Tensor:
        """Order the sums' slices by owner. A single sum lies so already."""
        if len(sums) == 1:
            return sums[0]
        slices = [value.view(self._world, self._slice) for value in sums]
        shape = (self._world, len(sums), self._slice)
        torch.stack(slices, dim=1, out=self._outbox.view(shape))
        return self._outbox

    def _add(self, left: Tensor, right: Tensor) -> Tensor:
        _add_blocks(self._blocks, left, right)
        return left


def _add_blocks(blocks: tuple[Block, ...], into: Tensor, other: Tensor) -> None:
    """Add `other` to `into`, whole or slices, which the blocks fit; counters take the larger."""
    for block in blocks:
        total = block.of(into)
        if block.kind == "counter":
            torch.maximum(total, block.of(other), out=total)
        else:
            total.add_(block.of(other))
