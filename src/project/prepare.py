"""From rows of the snapshot to arrays: a pure function, fitted on the training split only."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from saigen.data.preparation import Arrays, Table
from saigen.data.rows import read_rows

SIDE = 8  # the snapshot's images are 8 pixels wide and high
LEVELS = 16  # the snapshot has grey levels 0..16
LABELS = 9  # the snapshot has labels 0..9
PIXELS = [f"p{row}{column}" for row in range(SIDE) for column in range(SIDE)]


class Standardize:
    """Centres each pixel and scales it by its deviation over the training split.

    The same object prepares the data for training and for `saigen predict`; what it fitted
    travels inside the model folder.
    """

    def __init__(self, *, epsilon: float) -> None:
        self.epsilon = epsilon

    def read(self, path: Path) -> Table:
        """Read a file in the snapshot's format; `label` may be missing (then: prediction)."""
        rows = read_rows(path, ["id", *PIXELS])
        table = {"pixels": rows.whole_numbers(PIXELS, 0, LEVELS)}
        if "label" in rows.columns:
            table["label"] = rows.whole_numbers(["label"], 0, LABELS)[:, 0]
        return Table(ids=tuple(rows.column("id")), columns=table)

    def fit(self, train: Table) -> Arrays:
        """Mean and deviation of each pixel, (64,) float32, from exact integer sums."""
        pixels = train.columns["pixels"]
        rows = len(pixels)
        sums = pixels.sum(axis=0).tolist()
        squares = (pixels * pixels).sum(axis=0).tolist()
        mean = [total / rows for total in sums]
        deviation = [
            math.sqrt(rows * square - total * total) / rows
            for total, square in zip(sums, squares, strict=True)
        ]
        return {
            "mean": np.array(mean, np.float32),
            "scale": np.array([1.0 / (d + self.epsilon) for d in deviation], np.float32),
        }

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:
        """`inputs` (rows, 64) float32 and, where the table has labels, `targets` (rows,) int64."""
        pixels = table.columns["pixels"].astype(np.float32)
        arrays = {"inputs": (pixels - fitted["mean"]) * fitted["scale"]}
        if "label" in table.columns:
            arrays["targets"] = table.columns["label"]
        return arrays
