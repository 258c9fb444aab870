"""Collate functions that `data.collate` may name: a batch of samples that differ in length."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from saigen.errors import Refusal

Count = Annotated[int, Field(ge=1)]


def padded(
    *, samples: Sequence[Any], length: Count, value: float, lengths: str | None
) -> dict[str, np.ndarray] | list[np.ndarray]:
    """Stack samples whose arrays differ along their first axis, filled up to `length` by `value`.

    Arrays of a batch that have no axis are stacked as they are. Under the name `lengths` stands how
    long each sample was, (B,) int64; null: nowhere. Raises Refusal if one is longer than `length`.
    """
    named = isinstance(samples[0], Mapping)
    keys = list(samples[0]) if named else list(range(len(samples[0])))
    found: dict[Any, np.ndarray] = {}
    long: list[int] = []
    for key in keys:
        arrays = [np.asarray(sample[key]) for sample in samples]
        if not arrays[0].ndim:
            found[key] = np.stack(arrays)
            continue
        long = [len(array) for array in arrays]
        if max(long) > length:
            raise Refusal(
                "a sample is longer than what samples are filled up to",
                where=f"data.collate.length: {key!r}",
                expected=f"at most {length}",
                got=str(max(long)),
                fix=f"set data.collate.length={max(long)}, or cut the sample in the dataset",
            )
        found[key] = np.full((len(arrays), length, *arrays[0].shape[1:]), value, arrays[0].dtype)
        for row, array in zip(found[key], arrays, strict=True):
            row[: len(array)] = array
    if lengths is not None:
        found[lengths if named else len(keys)] = np.array(long, np.int64)
    return found if named else list(found.values())
