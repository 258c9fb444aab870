"""Predictions as a file: readable, and exact to the bit."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np


def predictions_csv(ids: Sequence[str], predictions: Mapping[str, np.ndarray]) -> bytes:
    """Predictions as CSV: id, then a column a number; floats in the shortest text that names
    their bits.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns: dict[str, list[str]] = {"id": list(ids)}
    for name, array in predictions.items():
        if array.ndim == 1:
            columns[name] = [str(value) for value in array]
        else:
            flat = array.reshape(len(array), -1)
            for column in range(flat.shape[1]):
                columns[f"{name}_{column}"] = [str(value) for value in flat[:, column]]
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()
