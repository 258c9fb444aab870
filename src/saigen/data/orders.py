# ruff: noqa: ARG002  each takes what any of them may need
"""Orders that `data.order` may name: which sample stands at a position, by (key, epoch, position).

Each is called once, with the number of samples and the prepared arrays of the training split, and
gives a function of (key, epoch, positions (k,)) -> samples (k,). That function has no state, so a
run resumes from its step number alone. If it has a `__len__`, an epoch has that many positions,
else one a sample. If it has an attribute `repeats` that is false, no sample stands twice in an
epoch, and what a sample draws is keyed by (epoch, sample), else by the position, too.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from saigen.data.order import Indices, Ordering, sample_index
from saigen.errors import Refusal
from saigen.project_code import place_of

Arrays = Mapping[str, np.ndarray]
Count = Annotated[int, Field(ge=1)]
_TRIED = 64  # positions that are asked for twice; looking moves no bit


class _Bijective:
    """An order in which no sample stands twice in an epoch."""

    repeats = False

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples


class Permuted(_Bijective):
    """Every sample once, in another order in each epoch."""

    def __init__(self, *, samples: int, arrays: Arrays) -> None:
        super().__init__(samples)

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        return sample_index(key, self.samples, positions)


class Sequential(_Bijective):
    """Every sample once, as they were prepared, in each epoch."""

    def __init__(self, *, samples: int, arrays: Arrays) -> None:
        super().__init__(samples)

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        return positions


class Contiguous(_Bijective):
    """Windows of a long text, of which row r of a batch goes on where row r ended before.

    The samples are windows one behind another; each of the `batch_size` rows reads a stretch of
    them, and what is left over sits out.
    """

    def __init__(self, *, samples: int, arrays: Arrays, batch_size: Count) -> None:
        self.batch_size = batch_size
        super().__init__(samples - samples % batch_size)

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        batch, row = np.divmod(positions, self.batch_size)
        return row * (self.samples // self.batch_size) + batch


class Bucketed(_Bijective):
    """Every sample once, those of like length in one batch.

    The permuted epoch is cut into buckets of `bucket_batches` batches. A bucket is sorted by the
    array `by`, and its batches stand in a permuted order.
    """

    def __init__(
        self, *, samples: int, arrays: Arrays, by: str, batch_size: Count, bucket_batches: Count
    ) -> None:
        super().__init__(samples)
        self.lengths = _column(arrays, by, samples, "bucketed")
        self.batch_size, self.bucket = batch_size, batch_size * bucket_batches

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        buckets = positions // self.bucket
        found = np.empty_like(positions)
        for number in np.unique(buckets).tolist():
            chosen = buckets == number
            found[chosen] = self._bucket(key, number)[positions[chosen] - number * self.bucket]
        return found

    def _bucket(self, key: int, number: int) -> Indices:
        start, size = number * self.bucket, self.batch_size
        places = np.arange(start, min(start + self.bucket, self.samples))
        samples = sample_index(key, self.samples, places)
        samples = samples[np.argsort(self.lengths[samples], kind="stable")]
        whole = len(samples) // size
        if whole:  # a last batch that is not whole stays the last
            order = sample_index(_derived(key, number), whole, np.arange(whole))
            samples[: whole * size] = (
                samples[: whole * size].reshape(whole, size)[order].reshape(-1)
            )
        return samples


class Weighted:
    """Draws with replacement: a sample comes in proportion to its weight in the array `by`."""

    repeats = True

    def __init__(self, *, samples: int, arrays: Arrays, by: str) -> None:
        weights = _column(arrays, by, samples, "weighted").astype(np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise _misfit("weighted", by, "finite weights from 0 up, one of them above", "others")
        self.sums = np.cumsum(weights)

    def __len__(self) -> int:
        return len(self.sums)

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        drawn = uniform(key, positions) * self.sums[-1]
        # rounding may give the sum itself, and a last weight may be 0
        last = np.searchsorted(self.sums, self.sums[-1], side="left")
        found: Indices = np.minimum(np.searchsorted(self.sums, drawn, side="right"), last)
        return found


class Balanced:
    """Every class of the array `by` equally often: each once in as many positions as there are
    classes. A class's samples come in a permuted order, again and again where they are few.
    """

    repeats = True

    def __init__(self, *, samples: int, arrays: Arrays, by: str) -> None:
        labels = _column(arrays, by, samples, "balanced")
        self.samples = samples
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __len__(self) -> int:
        return self.samples

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        classes = len(self.members)
        rounds, places = np.divmod(positions, classes)
        first = int(rounds.min()) if positions.size else 0
        whole = np.arange(first, int(rounds.max()) + 1 if positions.size else first)
        draws = uniform(_derived(key, 0), whole[:, None] * classes + np.arange(classes))
        chosen = np.argsort(draws, axis=1, kind="stable")[rounds - first, places]
        found = np.empty_like(positions)
        for number, members in enumerate(self.members):
            turns = rounds[chosen == number] % len(members)
            own = sample_index(_derived(key, number + 1), len(members), turns)
            found[chosen == number] = members[own]
        return found


class Repeated:
    """Every sample `repeats_each` times in a row, augmented otherwise each time, in as many
    positions as there are samples: an epoch sees other ones of them than the next.
    """

    repeats = True

    def __init__(self, *, samples: int, arrays: Arrays, repeats_each: Count) -> None:
        self.samples, self.repeats_each = samples, repeats_each

    def __len__(self) -> int:
        return self.samples

    def __call__(self, key: int, epoch: int, positions: Indices) -> Indices:
        """Return the samples at these positions."""
        return sample_index(key, self.samples, positions // self.repeats_each)


def uniform(key: int, places: Indices) -> np.ndarray:
    """Numbers in [0, 1), float64, each a function of the key and its place (two rounds of
    splitmix64).
    """
    # the two halves of a key of 128 bits, and the 53 bits of a float64
    low, high = np.uint64(key & (2**64 - 1)), np.uint64(key >> 64 & (2**64 - 1))
    mixed = _splitmix(_splitmix(places.astype(np.uint64) + low) ^ high)
    found: np.ndarray = (mixed >> np.uint64(11)) * 2.0**-53
    return found


def check_ordering(ordering: Any, samples: int) -> int:
    """How many positions an epoch has. Raises Refusal unless the order gives a sample for each of
    its first positions, and the same whatever they are asked together with.
    """
    if not callable(ordering):
        expected = "a function of (key, epoch, positions), or what gives one when it is called"
        raise _broken(ordering, expected, type(ordering).__name__)
    length = len(ordering) if hasattr(ordering, "__len__") else samples
    if not length:
        raise _broken(ordering, "at least one position in an epoch", "none")
    positions = np.unique(np.linspace(0, length - 1, min(length, _TRIED)).astype(np.int64))
    together = checked(ordering, samples)(1, 0, positions)
    alone = [int(ordering(1, 0, positions[n : n + 1])[0]) for n in reversed(range(len(positions)))]
    if together.tolist() != alone[::-1]:
        raise _broken(
            ordering,
            "a function of (key, epoch, position): the same sample whatever else is asked for",
            "other samples when the same positions are asked for one by one",
        )
    return length


def checked(ordering: Ordering, samples: int) -> Ordering:
    """The same order, which refuses what is no sample."""

    def asked(key: int, epoch: int, positions: Indices) -> Indices:
        found = ordering(key, epoch, positions)
        if not isinstance(found, np.ndarray) or found.shape != positions.shape:
            got = f"{type(found).__name__} of shape {np.shape(found)} for {positions.shape}"
            raise _broken(ordering, "an array of as many samples as there are positions", got)
        if found.dtype.kind not in "iu":
            raise _broken(ordering, "samples as whole numbers", str(found.dtype))
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < samples:
            got = f"{int(found.min())} to {int(found.max())}"
            raise _broken(ordering, f"samples from 0 to {samples - 1}", got)
        return found.astype(np.int64, copy=False)

    return asked


def _derived(key: int, index: int) -> int:
    # a key has 16 bytes, an index 8
    text = key.to_bytes(16, "little") + index.to_bytes(8, "little")
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def _splitmix(z: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014), behind its increment."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = z ^ (z >> np.uint64(31))
    return found


def _column(arrays: Arrays, by: str, samples: int, order: str) -> np.ndarray:
    """The array of one number a sample."""
    if by not in arrays:
        names = ", ".join(sorted(arrays))
        raise _misfit(order, by, f"one of the prepared arrays: {names}", repr(by))
    if arrays[by].shape != (samples,) or arrays[by].dtype.kind not in "biuf":
        got = f"{arrays[by].dtype} of shape {arrays[by].shape}"
        raise _misfit(order, by, f"one number for each of {samples} samples", got)
    return np.asarray(arrays[by])


def _misfit(order: str, by: str, expected: str, got: str) -> Refusal:
    return Refusal(
        f"the array {by!r} gives no {order} order",
        where="data.order.by",
        expected=expected,
        got=got,
        fix="name such an array, or have `transform` of the preparation make one",
    )


def _broken(ordering: Any, expected: str, got: str) -> Refusal:
    named = ordering if hasattr(ordering, "__qualname__") else type(ordering)
    return Refusal(
        "the order does not say which sample stands where",
        where=f"data.order: {place_of(named)}",
        expected=expected,
        got=got,
        fix="change the function of (key, epoch, positions), or name one of saigen.data.orders",
    )
