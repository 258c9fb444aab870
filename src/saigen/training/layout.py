"""Layout: where in one run of bytes each of many tensors lies.

Every tensor starts on a cache line (64 bytes), so that a vectorized kernel meets the same
alignment whatever was laid out before it. Tensors of one kind, group and data type lie next to
each other and make a block: one typed tensor, padding included, which is zero and stays zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

# that is how wide the memory of the processors is
LINE = 64  # bytes: a cache line, and the widest vector register

NO_GROUP = -1

Kind: TypeAlias = Literal["parameter", "buffer", "counter", "scalar"]  # in the order of the bytes


@dataclass(frozen=True)
class Span:
    """The place of one tensor: bytes start..stop-1, of which the tail may be padding."""

    name: str
    kind: Kind
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    stop: int
    group: int

    def of(self, flat_buffer: Tensor) -> Tensor:
        """Look at the tensor in a flat buffer, with its own shape and strides."""
        return (
            flat_buffer[self.start : self.stop].view(self.dtype).as_strided(self.shape, self.stride)
        )


@dataclass(frozen=True)
class Block:
    """Bytes start..stop-1, all of one kind, group and data type."""

    kind: Kind
    dtype: torch.dtype
    start: int
    stop: int
    group: int

    def of(self, flat_buffer: Tensor) -> Tensor:
        """Look at the block in a flat buffer as one tensor, (elements,)."""
        return flat_buffer[self.start : self.stop].view(self.dtype)

    def within(self, start: int, stop: int) -> "Block | None":
        """Cut the block to bytes start..stop-1, counted from there; None if nothing is left."""
        first, last = max(start, self.start), min(stop, self.stop)
        if first >= last:
            return None
        return Block(self.kind, self.dtype, first - start, last - start, self.group)


@dataclass(frozen=True)
class Layout:
    """Spans and blocks in the order of their bytes; `size` is the length of a flat buffer, in
    bytes.
    """

    spans: tuple[Span, ...]
    blocks: tuple[Block, ...]
    size: int

    def flat_buffer(self, device: torch.device, *kinds: Kind) -> Tensor:
        """Make a flat buffer of zeros, as long as these kinds need, or whole: (bytes,) uint8."""
        stops = [block.stop for block in self.of_kind(*kinds)]
        size = max(stops, default=0) if kinds else self.size
        return torch.zeros(size, dtype=torch.uint8, device=device)

    def of_kind(self, *kinds: Kind) -> tuple[Block, ...]:
        """Return the blocks of these kinds."""
        return tuple(block for block in self.blocks if block.kind in kinds)


def compute_layout(
    tensors: Sequence[tuple[str, Kind, Tensor]], multiple: int, groups: Mapping[str, int]
) -> Layout:
    """Give every tensor a place: by kind, then by group (of each parameter), then by data
    type in the order in which those first appear, then in the given order. `size` becomes a
    multiple of `multiple`.
    """
    kinds, dtypes = get_args(Kind), list(dict.fromkeys(t.dtype for _, _, t in tensors))
    spans: list[Span] = []
    at = 0

    def group_of(name: str, kind: Kind) -> int:
        return groups[name] if kind == "parameter" else NO_GROUP

    def order(item: tuple[str, Kind, Tensor]) -> tuple[int, int, int]:
        name, kind, tensor = item
        return kinds.index(kind), group_of(name, kind), dtypes.index(tensor.dtype)

    for name, kind, t in sorted(tensors, key=order):
        # kernels, and so bits, may depend on strides: those of a dense tensor are kept
        stride = torch.empty_like(t).stride()
        stop = at + _up(t.numel() * t.itemsize, LINE)
        group = group_of(name, kind)
        spans.append(Span(name, kind, t.dtype, tuple(t.shape), stride, at, stop, group))
        at = stop
    blocks = []
    for (kind, group, dtype), members in groupby(spans, lambda s: (s.kind, s.group, s.dtype)):
        run = list(members)
        if run[-1].stop > run[0].start:
            blocks.append(Block(kind, dtype, run[0].start, run[-1].stop, group))
    return Layout(tuple(spans), tuple(blocks), _up(at, multiple))


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
