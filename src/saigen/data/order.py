"""Order: which sample stands at which position of an epoch, as a function and not an iterator.

`data.order` names which function: one of `orders.py`, or of the project. The default is a keyed
permutation of 0..n-1 with random access: an alternating Feistel network on the bits of the position
(Luby and Rackoff, 1988), and cycle walking down to n (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002). It needs no memory for its n, has no state to restore, and any number of
loaders may ask it for any positions.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from saigen.streams import Streams

Indices: TypeAlias = NDArray[np.int64]

MAXIMUM = 1 << 62  # two halves of 31 bits, in 32-bit arithmetic

# 4 rounds are enough for a pseudorandom permutation if the round functions are random ones (Luby
# and Rackoff); ours is a cheap mixer, so twice that. And never fewer than 6 bits: with halves of
# 1 or 2 bits the permutations of n = 4 or 5 are not equally frequent, however many the rounds.
# The order is a published function and no choice of a run, so its numbers stand here.
_ROUNDS, _BITS = 8, 6
# Multipliers of Wellons' lowbias32, found by search for the least avalanche bias among 32-bit
# multiply-xorshift mixers (nullprogram.com/blog/2018/07/31).
_MIX = np.uint32(0x7FEB352D), np.uint32(15), np.uint32(0x846CA68B)
# Values a pass: large enough to forget the 0.5 us that each of 60 NumPy calls costs, small enough
# for all buffers (1 MiB) to stay in a cache.
_BLOCK = 1 << 15


def sample_index(key: int, n: int, positions: Indices) -> Indices:
    """Return the samples at these positions, (k,) int64, each in 0..n-1, as are the positions.

    For each key a bijection of 0..n-1, 1 <= n <= 2^62. Costs 10 ns an index (`bench/order.py`),
    twice that where n lies just above a power of two. Memory: a block, and O(k).
    """
    return _permute(_Network(key, n), n, positions)


class Order:
    """The order of one epoch, keyed by the stream "order" and the epoch.

    Remembers the last block it computed, which is what makes a batch of 32 cost a slice; what it
    answers depends on the key, the epoch and the positions alone.
    """

    def __init__(self, streams: "Streams", ordering: "Ordering", length: int, epoch: int) -> None:
        """Take the function, how many positions an epoch has, and which epoch, counted from 0."""
        self.length, self.epoch = length, epoch
        self._ordering, self._key = ordering, streams.key("order", epoch)
        self._block_start = 0
        self._block: Indices = np.empty(0, np.int64)

    def indices(self, start: int, stop: int) -> Indices:
        """Return the samples at positions start..stop-1, (stop - start,) int64."""
        assert 0 <= start <= stop <= self.length
        first = start - self._block_start
        if not 0 <= first <= first + stop - start <= self._block.size:
            # Block-aligned, so that a resumed run computes the same blocks as any other.
            self._block_start = start - start % _BLOCK
            end = min(self.length, max(stop, self._block_start + _BLOCK))
            positions = np.arange(self._block_start, end)
            self._block = self._ordering(self._key, self.epoch, positions)
            first = start - self._block_start
        return self._block[first : first + stop - start].copy()


Ordering: TypeAlias = Callable[[int, int, Indices], Indices]  # of (key, epoch, positions)


class _Network:
    """A bijection of 0..2^bits-1, the smallest power of two that holds n (at least 64).

    The high and low halves may differ in width by a bit: round by round one of them is changed
    by a function of the other. That keeps the domain below 2 n; with halves of equal width it
    would be up to 4 n, and walking twice as long.
    """

    def __init__(self, key: int, n: int) -> None:
        assert 1 <= n <= MAXIMUM
        bits = max(_BITS, (n - 1).bit_length())
        self.low_bits = bits // 2
        self.high_bits = bits - self.low_bits
        # a key has 16 bytes and a round four
        digest = hashlib.shake_128(key.to_bytes(16, "little")).digest(4 * _ROUNDS)
        self.keys = np.frombuffer(digest, dtype="<u4").astype(np.uint32)

    def __call__(self, values: Indices) -> Indices:
        """Map values (k,) to their images; about 60 passes over 4-byte words in cache."""
        halves = (
            (values >> self.low_bits).astype(np.uint32),
            (values & ((1 << self.low_bits) - 1)).astype(np.uint32),
        )
        # a word has 32 bits
        shifts = np.uint32(32 - self.high_bits), np.uint32(32 - self.low_bits)
        mixed, shifted = np.empty_like(halves[0]), np.empty_like(halves[0])
        multiplier, shift, again = _MIX
        for turn in range(_ROUNDS):
            changed, other = turn % 2, 1 - turn % 2
            # Not linear over XOR (multiplication carries) nor over addition (the shift): a
            # linear round function gives a permutation whose steps repeat.
            np.multiply(halves[other], multiplier, out=mixed)
            np.add(mixed, self.keys[turn], out=mixed)
            np.right_shift(mixed, shift, out=shifted)
            np.bitwise_xor(mixed, shifted, out=mixed)
            np.multiply(mixed, again, out=mixed)
            np.right_shift(mixed, shifts[changed], out=mixed)
            np.bitwise_xor(halves[changed], mixed, out=halves[changed])
        image = halves[0].astype(np.int64)
        image <<= self.low_bits
        image |= halves[1]
        return image


def _permute(network: _Network, n: int, values: Indices) -> Indices:
    """Apply the network block by block, again and again to what falls outside 0..n-1."""
    assert values.size == 0 or 0 <= int(values.min()) <= int(values.max()) < n
    images = np.empty(values.shape, np.int64)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        images[start : start + _BLOCK] = network(block)
    outside = np.flatnonzero(images >= n)
    while outside.size:
        for start in range(0, outside.size, _BLOCK):
            positions_outside = outside[start : start + _BLOCK]
            images[positions_outside] = network(images[positions_outside])
        outside = outside[images[outside] >= n]
    return images
