"""Predictions as a file: readable, and exact to the bit."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np


def predictions_csv(ids: Sequence[str], predictions: Mapping[str, np.ndarray]) -> bytes:
    """Predictions as CSV: id, then a column a number; floats in the shortest text that names
    their bits.
    """
    columns: dict[str, Sequence[object]] = {"id": ids}
    for name, array in predictions.items():
        if array.ndim == 1:
            columns[name] = list(array)
        else:
            flat = array.reshape(len(array), -1)
            columns |= {
                f"{name}_{number}": list(flat[:, number]) for number in range(flat.shape[1])
            }
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([str(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue().encode()
