"""Predictions as a file: readable, and exact to the bit."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np


def predictions_csv(ids: Sequence[str], predictions: Mapping[str, np.ndarray]) -> bytes:
    """Predictions as CSV: id, then a column a number; floats in the shortest text that names
    their bits.
    """
    columns: dict[str, Sequence[object]] = {"id": ids}
    for name, array in predictions.items():
        flat = array.reshape(len(array), -1)
        columns |= {c: list(flat[:, n]) for n, c in enumerate(columns_of(name, array))}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([str(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def columns_of(name: str, array: np.ndarray) -> list[str]:
    """The names of the columns that an array of predictions, of at least one row, becomes."""
    if array.ndim == 1:
        return [name]
    return [f"{name}_{number}" for number in range(math.prod(array.shape[1:]))]


def read_predictions(content: bytes, floats: type[np.floating]) -> dict[str, np.ndarray]:
    """Predictions from what `predictions_csv` wrote, to the bit if `floats` is the type they had.

    A column of whole numbers is int64. Columns `name_0`, `name_1`, ... are one array (rows,
    columns), as they were if it had two dimensions.
    """
    names, *rows = csv.reader(io.StringIO(content.decode()))
    arrays: dict[str, list[np.ndarray]] = {}
    for name, column in list(zip(names, zip(*rows, strict=True), strict=True))[1:]:
        stem, _, number = name.rpartition("_")
        is_part = number == str(len(arrays.get(stem, ())))
        is_whole = all(text.lstrip("-").isdigit() for text in column)
        array = np.array(column, dtype=np.int64 if is_whole else floats)
        arrays.setdefault(stem if is_part else name, []).append(array)
    return {
        name: parts[0] if name in names else np.stack(parts, axis=1)
        for name, parts in arrays.items()
    }
