"""From rows of the snapshot to arrays: a pure function, fitted on the training split only."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from saigen.refusal import Refusal
from saigen.training.preparation import Arrays, Table

SIDE = 8  # saigen: constant, because the snapshot's images are 8 pixels wide and high
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
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = set(rows[0]) if rows else set()
        if missing := sorted({"id", *PIXELS} - columns):
            raise Refusal(
                "the file is not in the snapshot's format",
                where=str(path),
                expected="a CSV file with the columns id, p00 ... p77 and, to train, label",
                got=f"no column {', '.join(missing[:5])}" if rows else "no rows",
                fix="write the first line as in data/digits.csv",
            )
        try:
            table = {"pixels": np.array([[int(row[p]) for p in PIXELS] for row in rows], np.int64)}
            if "label" in columns:
                table["label"] = np.array([int(row["label"]) for row in rows], np.int64)
        except (TypeError, ValueError) as error:
            raise Refusal(
                "a row of the file holds something that is not a whole number",
                where=str(path),
                expected="grey levels 0..16 and labels 0..9",
                got=str(error),
                fix="mend the row, or leave it out",
            ) from error
        return Table(ids=tuple(row["id"] for row in rows), columns=table)

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
