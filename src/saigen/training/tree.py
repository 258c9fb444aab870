"""The fixed tree: in which order a step's microbatches are added, whoever computed them.

A binary tree over the next power of two above L leaves, of which those from L on are missing; a
node whose right side is missing altogether *is* its left side. So the shape depends on L alone,
and a sum on its leaves alone. Floating-point addition is not associative: another shape would be
another result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """Covers the leaves index * 2^level up to (index + 1) * 2^level - 1."""

    level: int
    index: int

    def parent(self) -> "Node":
        """Return the node above."""
        return Node(self.level + 1, self.index // 2)


class Accumulator(Generic[T]):
    """Adds nodes that arrive from left to right as a binary counter does: whenever both children
    of a node are there, they become one. So of n leaves at most log2(n) + 1 sums are alive.
    """

    def __init__(self, leaves: int, add: Callable[[T, T], T]) -> None:
        """`add` gets the left sum and the right one, and may use up both."""
        self.held: list[tuple[Node, T]] = []
        self._leaves = leaves
        self._root = (leaves - 1).bit_length()
        self._add = add

    def push(self, node: Node, value: T) -> None:
        """Take the next node; its leaves follow on those that came before."""
        while node.level < self._root:
            if (node.index + 1) << node.level >= self._leaves and node.index % 2 == 0:
                node = node.parent()  # there is no right side
            elif node.index % 2 and self.held and self.held[-1][0] == _left_of(node):
                value = self._add(self.held.pop()[1], value)
                node = node.parent()
            else:
                break
        self.held.append((node, value))


def share(leaves: int, rank: int, world: int) -> range:
    """Return the leaves of a rank: contiguous, sizes differing by at most one."""
    return range(rank * leaves // world, (rank + 1) * leaves // world)


def subtrees(leaves: int, some: range) -> tuple[Node, ...]:
    """Return the maximal nodes of the tree that a contiguous range of leaves completes."""
    accumulator = Accumulator[None](leaves, lambda _left, _right: None)
    for leaf in some:
        accumulator.push(Node(0, leaf), None)
    return tuple(node for node, _ in accumulator.held)


def _left_of(node: Node) -> Node:
    return Node(node.level, node.index - 1)
