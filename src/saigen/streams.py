"""Streams: named sources of randomness, each number a function of (seed, name, indices).

Nothing here remembers how many numbers were drawn before, so there is no generator state to
checkpoint: a run that resumes at step 900 asks for the key of step 900.

Keys come from a hash of an unambiguous text, never from addition: ``seed + epoch`` makes five
seeds and ten epochs share 14 permutations.
"""

import hashlib
import os
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence

from saigen.digest import canonical_json

SCHEME = "saigen-streams-1"

_LOW_32 = (1 << 32) - 1
_LOW_64 = (1 << 64) - 1
_INDICES = tuple(struct.Struct(f"<{count}Q") for count in range(9))


@dataclass(frozen=True)
class Streams:
    """The seeds of a run's streams: any whole number from 0 up; 0 is a seed like any other.

    A key is the 128-bit BLAKE2b digest of ``[scheme, seed, name]`` as JSON (an array ends where
    its bracket does, so nothing can be moved between the fields), followed by the indices, eight
    bytes each.
    """

    seeds: Mapping[str, int]
    _started: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash what all keys of a stream share, once."""
        object.__setattr__(self, "_started", {n: _start(n, s) for n, s in self.seeds.items()})

    def __reduce__(self) -> tuple[type["Streams"], tuple[dict[str, int]]]:
        """Travel to a loader's worker as seeds; started hashes cannot be pickled."""
        return Streams, (dict(self.seeds),)

    def key(self, name: str, *indices: int) -> int:
        """Return the 128-bit key of a place in a stream (0.5 us); up to 8 indices in 0..2^64-1.

        KeyError where there is no such stream: the schema of the config sees to seeds and names.
        """
        state = self._started[name].copy()
        state.update(_INDICES[len(indices)].pack(*indices))
        return int.from_bytes(state.digest(), "little")

    def numpy(self, name: str, *indices: int) -> np.random.Generator:
        """Return a NumPy generator: Philox under the place's key, counter at zero (5 us)."""
        # a key has 16 bytes
        key = self.key(name, *indices).to_bytes(16, "little")
        return np.random.Generator(np.random.Philox(cast(Any, _Key(key))))

    def set_globals(self, name: str, *indices: int) -> None:
        """Set every global generator: Python's, NumPy's legacy one, torch's CPU and CUDA ones.

        Costs 8 us (`bench/streams.py`, 2-core AMD EPYC): hash 0.6, torch 1.1, NumPy 1.6, Python
        3.8; `torch.manual_seed`, which visits every backend, would cost 80 or more by itself.
        NumPy and torch on the CPU keep 32 bits: two of n places share a generator with
        probability about n^2 / 2^33, which repeats a dropout mask and harms nothing. NumPy
        could be given more, but its array seeding costs 8 us.
        """
        key = self.key(name, *indices)
        random.seed(key)
        np.random.seed((key >> 64) & _LOW_32)
        torch.default_generator.manual_seed(key & _LOW_64)
        for generator in cuda_generators():
            generator.manual_seed(key & _LOW_64)


class _Key(ISeedSequence):
    """Hands Philox its key. `Philox(key=...)` also reads the system's entropy: 8.6 us, not 3.3."""

    __slots__ = ("_bytes",)

    def __init__(self, key: bytes) -> None:
        self._bytes = key

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray[Any, Any]:
        """Return the key's 16 bytes as two 64-bit words, the only thing Philox asks for."""
        words = np.frombuffer(self._bytes, dtype="<u8")
        assert words.size == n_words
        assert words.dtype == dtype
        return words


def _start(name: str, seed: int) -> Any:
    """Begin the hash of a stream's keys; everything but the indices is already in it."""
    return hashlib.blake2b(canonical_json([SCHEME, seed, name]).encode(), digest_size=16)


@cache
def cuda_generators() -> tuple[torch.Generator, ...]:
    """Every CUDA device's default generator. They are set directly, on the host's side:
    `torch.cuda.manual_seed_all` costs more and does nothing before CUDA's start.

    Empty where there is no CUDA, and in a loader's worker (which must not start or touch it).
    """
    in_worker = torch.utils.data.get_worker_info() is not None
    if in_worker or not torch.cuda.is_available() or torch.cuda._is_in_bad_fork():
        return ()
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return tuple(torch.cuda.default_generators)


os.register_at_fork(after_in_child=cuda_generators.cache_clear)
