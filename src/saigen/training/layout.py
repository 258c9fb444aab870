"""Layout: where in one run of bytes each of many tensors lies.

Every tensor starts on a cache line (64 bytes), so that a vectorized kernel meets the same
alignment whatever was laid out before it. Tensors of one kind and data type lie next to each
other and make a block: one typed tensor, padding included, which is zero and stays zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import torch
from torch import Tensor

# saigen: constant, because that is how wide the memory of the processors is
LINE = 64  # bytes: a cache line, and the widest vector register

Kind: TypeAlias = Literal["parameter", "buffer", "counter", "scalar"]


@dataclass(frozen=True)
class Item:
    """A tensor that wants a place: `group` orders tensors within their block."""

    name: str
    kind: Kind
    group: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Span:
    """The place of an item: bytes start..stop-1, of which the tail may be padding."""

    item: Item
    start: int
    stop: int

    def of(self, arena: Tensor) -> Tensor:
        """Look at the item in an arena, with its own shape and strides."""
        run = arena[self.start : self.stop].view(self.item.dtype)[: self.item.numel]
        return run.as_strided(self.item.shape, self.item.stride)


@dataclass(frozen=True)
class Block:
    """Bytes start..stop-1, all of one kind and data type."""

    kind: Kind
    dtype: torch.dtype
    start: int
    stop: int

    def of(self, arena: Tensor) -> Tensor:
        """Look at the block in an arena as one tensor, (elements,)."""
        return arena[self.start : self.stop].view(self.dtype)

    def within(self, start: int, stop: int) -> "Block | None":
        """Cut the block to bytes start..stop-1, counted from there; None if nothing is left."""
        first, last = max(start, self.start), min(stop, self.stop)
        if first >= last:
            return None
        return Block(self.kind, self.dtype, first - start, last - start)


@dataclass(frozen=True)
class Layout:
    """Spans and blocks in the order of their bytes; `size` is the length of an arena, in bytes."""

    spans: tuple[Span, ...]
    blocks: tuple[Block, ...]
    size: int

    def arena(self, device: torch.device) -> Tensor:
        """Make an arena of zeros, (size,) uint8."""
        return torch.zeros(self.size, dtype=torch.uint8, device=device)

    def of_kind(self, *kinds: Kind) -> tuple[Block, ...]:
        """Return the blocks of these kinds."""
        return tuple(block for block in self.blocks if block.kind in kinds)


def lay_out(items: Sequence[Item], multiple: int) -> Layout:
    """Give every item a place, in a fixed order: kinds, data types and groups in the order in
    which they first appear, then the items' own order. `size` becomes a multiple of `multiple`.
    """
    spans, at = [], 0
    for item in _in_order(items):
        size = _up(item.numel * item.dtype.itemsize, LINE)
        spans.append(Span(item, at, at + size))
        at += size
    return Layout(tuple(spans), join(spans), _up(at, multiple))


def join(spans: Iterable[Span]) -> tuple[Block, ...]:
    """Join spans that follow each other and share kind and data type."""
    runs = groupby(spans, lambda span: (span.item.kind, span.item.dtype))
    blocks = []
    for (kind, dtype), members in runs:
        run = list(members)
        blocks.append(Block(kind, dtype, run[0].start, run[-1].stop))
    return tuple(blocks)


def _in_order(items: Sequence[Item]) -> list[Item]:
    """Sort by first appearance, stably."""
    kinds = list(dict.fromkeys(item.kind for item in items))
    dtypes = list(dict.fromkeys(item.dtype for item in items))
    groups = list(dict.fromkeys(item.group for item in items))
    return sorted(
        items,
        key=lambda i: (kinds.index(i.kind), dtypes.index(i.dtype), groups.index(i.group)),
    )


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
