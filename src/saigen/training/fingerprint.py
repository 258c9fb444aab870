"""A fingerprint of a tensor's bits: cheap enough for every step, computed where the tensor is.

With w the memory as 64-bit words, h their upper halves (every second float32), and m odd
multipliers drawn by hash of the word's place, the two lanes are sum(w * m) and sum(h * m), modulo
2^64. A change of one element always shows, since an odd number has an inverse; so do order and
sign. Integer addition makes the sums independent of the order of reduction and of sharding: the
lanes of shards, each with its offset, add up to those of the whole. The second lane is there for
the sign bits of upper halves: an even number of those cancels in the first, 2 * 2^63 = 2^64.
Not cryptographic: checkpoints carry SHA-256.
"""

from collections.abc import Sequence

import numpy as np
import torch

# Words that share one table of multipliers; each block of them has an odd multiplier of its own.
# 512 KiB stay in a second-level cache, and the table costs no memory beside a large model.
BLOCK = 1 << 16

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Fingerprint:
    """Of one run of memory, whose place and length stay; `offset` is its first word's number."""

    def __init__(self, tensor: torch.Tensor, *, lanes: int, offset: int) -> None:
        """Take contiguous memory of a whole number of 64-bit words, and 1 or 2 lanes.

        `offset` must be a multiple of BLOCK.
        """
        assert offset % BLOCK == 0
        words = tensor.detach().view(-1).view(torch.int64)
        halves = words.view(torch.int32)[1::2]  # little-endian: the upper half comes second
        self._lanes = lanes
        table = odd_multipliers(0, min(BLOCK, len(words)))
        starts = range(0, len(words), BLOCK)
        self._scale = odd_multipliers(1 << 32, (offset + len(words)) // BLOCK + 1)[
            offset // BLOCK :
        ].tolist()
        self._on_host = tensor.device.type == "cpu"
        if self._on_host:
            self._table = table
            self._words = [words.numpy()[start : start + BLOCK] for start in starts]
            self._products = np.empty(len(table), np.int64)
        else:
            self._device_table = torch.from_numpy(table).to(tensor.device)
            self._device_words = [words[start : start + BLOCK] for start in starts]
            self._device_halves = [halves[start : start + BLOCK] for start in starts]

    def on_host(self) -> tuple[int, ...]:
        """The lanes, each in 0..2^64-1, of memory on the CPU."""
        totals = [0] * self._lanes
        for words, scale in zip(self._words, self._scale, strict=False):
            table, products = self._table[: len(words)], self._products[: len(words)]
            # Two passes and yet faster than one np.dot, which has no vector code for integers.
            np.multiply(words, table, out=products)
            totals[0] += int(np.add.reduce(products)) * scale
            if self._lanes > 1:
                # saigen: constant, because half of a word of 64 bits is meant
                np.right_shift(words, 32, out=products)  # the upper half, with its sign
                np.multiply(products, table, out=products)
                totals[1] += int(np.add.reduce(products)) * scale
        return tuple(total & _MASK for total in totals)

    def on_device(self, out: torch.Tensor) -> None:
        """Write the lanes to `out`, (lanes,) int64 on the tensor's device, without waiting."""
        out.zero_()
        blocks = zip(self._device_words, self._device_halves, self._scale, strict=False)
        for words, halves, scale in blocks:
            table = self._device_table[: len(words)]
            out[0] += (words * table).sum() * scale
            if self._lanes > 1:
                out[1] += (halves.to(torch.int64) * table).sum() * scale


def fingerprints(tensors: Sequence[torch.Tensor], *, lanes: int) -> list[Fingerprint]:
    """Fingerprints of several tensors as one: each starts where the blocks of the last end."""
    made, offset = [], 0
    for tensor in tensors:
        made.append(Fingerprint(tensor, lanes=lanes, offset=offset))
        # saigen: constant, because a word has 8 bytes
        offset += -(-tensor.numel() * tensor.itemsize // 8 // BLOCK) * BLOCK
    return made


def on_host(parts: Sequence[Fingerprint]) -> tuple[int, ...]:
    """The lanes of several fingerprints together, of memory on the CPU."""
    if len(parts) == 1:
        return parts[0].on_host()
    lanes = zip(*(part.on_host() for part in parts), strict=True)
    # saigen: constant, because the fingerprint of nothing is zero in both lanes
    return tuple(sum(lane) & _MASK for lane in lanes) or (0, 0)


def odd_multipliers(first: int, count: int) -> np.ndarray:
    """Odd 64-bit numbers for the places first..first+count-1: splitmix64 (Steele et al., 2014)."""
    with np.errstate(over="ignore"):
        z = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    return z.view(np.int64)
