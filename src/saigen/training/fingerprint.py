"""A fingerprint of memory's bits: cheap enough for every step, computed where the memory is.

With w the memory as 64-bit words and m odd multipliers drawn by hash of the word's place, it is
sum(w * m) modulo 2^64, plus a salt. A change of one element always shows, since an odd number has
an inverse; so does order. Integer addition makes it independent of the order of reduction and of
sharding: the sums of shards, each with its offset, add up to that of the whole.

One thing the plain sum misses: an even number of signs in upper halves, 2 * 2^63 = 0 modulo 2^64,
as -0.0 for 0.0 in two places. With `signs` each word's upper half is added to the word first,
which makes its multiplier m * (2^32 + 1) and costs as much again. Not cryptographic: checkpoints
carry SHA-256.
"""

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
import torch

# Words that share one table of multipliers; each block of them has an odd multiplier of its own.
# 512 KiB stay in a second-level cache, and the table costs no memory beside a large model.
BLOCK = 1 << 16
# Blocks that a device mixes in one operation: a launch costs more than 512 KiB of arithmetic there,
# and mixed words take memory of their own, some 256 MiB at a time.
# integer sums are the same however many blocks are mixed at once
_AT_ONCE = 256

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Fingerprint:
    """Of memory whose places and lengths stay: several contiguous tensors as one.

    Each tensor starts where the blocks of the last one end, so that none is taken for another.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], *, salt: int = 0, offset: int = 0) -> None:
        """Take tensors on one device, each of a whole number of 64-bit words.

        `offset`, a multiple of BLOCK, is the number of the first word.
        """
        assert offset % BLOCK == 0
        self.salt = salt
        whole = [tensor.detach().view(-1).view(torch.int64) for tensor in tensors]
        blocks = [words[at : at + BLOCK] for words in whole for at in range(0, len(words), BLOCK)]
        scales = odd_multipliers(1 << 32, offset // BLOCK + len(blocks))[offset // BLOCK :]
        longest = max(map(len, blocks), default=0)
        table = _table()[:longest]
        self._on_host = all(words.device.type == "cpu" for words in blocks)
        room = np.empty(longest, np.int64)
        self._host = [
            (words.numpy(), table[: len(words)], room[: len(words)], scale)
            for words, scale in zip(blocks, scales.tolist(), strict=True)
            if self._on_host
        ]
        self._whole, self._scales = whole, scales

    def read(self, *, signs: bool) -> int:
        """The fingerprint, in 0..2^64-1; waits for the device."""
        total = self.salt
        if not self._on_host:
            return (total + int(self.on_device(signs=signs))) & _MASK
        for words, table, room, scale in self._host:
            mixed = words
            if signs:
                np.right_shift(words, 32, out=room)  # the upper half, with its sign
                mixed = np.add(words, room, out=room)
            total += int(np.dot(mixed, table)) * scale
        return total & _MASK

    @cached_property
    def _device(self) -> list["_Run"]:
        return _runs(self._whole, torch.from_numpy(self._scales))

    def on_device(self, *, signs: bool) -> torch.Tensor:
        """The fingerprint without its salt, () int64, where the memory is; nothing waits for it."""
        sums = []
        for words, upper, multipliers, scales in self._device:
            mixed = torch.add(words, upper) if signs else words
            rows = mixed * multipliers
            sums.append(rows.sum() if scales is None else (rows.sum(1) * scales).sum())
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


_Run = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


def _runs(whole: Sequence[torch.Tensor], scales: torch.Tensor) -> list[_Run]:
    """Words (rows, columns) with their upper halves, for few operations on a device: whole blocks
    under the table and a scale each, what is left under multipliers of its own.
    """
    found: list[_Run] = []
    for words in whole:
        there, count = _table_on(words.device), len(words) // BLOCK
        mine, scales = scales[: -(-len(words) // BLOCK)], scales[-(-len(words) // BLOCK) :]
        for at in range(0, count, _AT_ONCE):
            rows = words[at * BLOCK : min(at + _AT_ONCE, count) * BLOCK].view(-1, BLOCK)
            found.append((rows, _upper(rows), there, mine[at : at + len(rows)].to(words.device)))
        if rest := len(words) % BLOCK:
            row = words[-rest:].view(1, rest)
            found.append((row, _upper(row), there[:rest] * int(mine[-1]), None))
    return found


def _upper(words: torch.Tensor) -> torch.Tensor:
    """The upper half of each word, with its sign: (rows, columns) int32 of the same memory."""
    return words.view(torch.int32)[:, 1::2]


@cache
def _table() -> np.ndarray:
    return odd_multipliers(0, BLOCK)


@cache
def _table_on(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(_table()).to(device)


def odd_multipliers(first: int, count: int) -> np.ndarray:
    """Odd 64-bit numbers for the places first..first+count-1: splitmix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    return z.view(np.int64)
