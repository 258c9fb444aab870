"""From the rows of a table to arrays: a pure function, fitted on the training split only."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from saigen.data.preparation import Arrays, Table
from saigen.data.rows import CsvRows, read_rows

NOTHING = -1  # no category: the cell is empty, or holds a value that is not listed


class Columns:
    """Centres and scales numbers and dates; a category becomes one column for each of its values.

    An empty cell of a number becomes the mean, and for the columns in `may_lack` a column of its
    own says that it was empty. `categories` lists a column and, behind it, its values. `classes`
    are the values of the target, in the order of the model's outputs; without any, it is a number.
    """

    def __init__(
        self,
        *,
        numbers: list[str],
        dates: list[str],
        may_lack: list[str],
        categories: list[list[str]],
        target: str,
        classes: list[str],
        missing: list[str],
        epsilon: float,
    ) -> None:
        self.numbers, self.dates, self.may_lack = numbers, dates, may_lack
        self.categories = {column: values for column, *values in categories}
        self.target, self.classes = target, classes
        self.missing, self.epsilon = {text.casefold() for text in missing}, epsilon

    def read(self, path: Path) -> Table:
        """Read a file in the snapshot's format; the target may be missing (then: prediction), as a
        column or in a row.
        """
        rows = read_rows(path, [*self.numbers, *self.dates, *self.categories])
        measured = [self._numbers(rows, name) for name in self.numbers]
        measured += [self._days(rows, name) for name in self.dates]
        columns = {"numbers": np.array(measured, np.float64).reshape(-1, len(rows.cells)).T}
        for name, values in self.categories.items():
            columns[f"category {name}"] = self._places(rows, name, values)
        targets = rows.column(self.target) if self.target in rows.columns else [""]
        if not any(map(self._is_missing, targets)):
            columns["target"] = self._target(rows)
        ids = rows.column("id") if "id" in rows.columns else _numbered(len(rows.cells))
        return Table(ids=tuple(ids), columns=columns)

    def fit(self, train: Table) -> Arrays:
        """Mean and scale of each number, (numbers,) float64, of the cells that are not empty; and
        numbers that conf/ takes as `fitted:NAME`: how many `features` and `outputs` there are, and,
        of a target that is a number, its `center` and `spread`.
        """
        if "target" not in train.columns:
            raise ValueError(f"a row of the snapshot has no {self.target}: leave it out")
        moments = [self._moments(column) for column in train.columns["numbers"].T]
        values = sum(map(len, self.categories.values()))
        fitted = {
            "mean": np.array([mean for mean, _ in moments], np.float64),
            "scale": np.array([1.0 / (spread + self.epsilon) for _, spread in moments]),
            "features": np.array(len(moments) + len(self.may_lack) + values),
            "outputs": np.array(max(len(self.classes), 1)),
        }
        if not self.classes:
            center, spread = self._moments(train.columns["target"].astype(np.float64))
            fitted |= {"center": np.array(center), "spread": np.array(spread + self.epsilon)}
        return fitted

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:
        """`inputs` (rows, features) float32; where the table has a target, `targets` (rows,)."""
        numbers = table.columns["numbers"]
        lacking = np.isnan(numbers)
        parts = [np.where(lacking, 0.0, (numbers - fitted["mean"]) * fitted["scale"])]
        names = [*self.numbers, *self.dates]
        parts.append(lacking[:, [names.index(name) for name in self.may_lack]])
        for name, values in self.categories.items():
            places = table.columns[f"category {name}"]
            parts.append(places[:, None] == np.arange(len(values)))
        arrays = {"inputs": np.concatenate(parts, axis=1).astype(np.float32)}
        if "target" in table.columns:
            arrays["targets"] = table.columns["target"]
        return arrays

    def _moments(self, column: np.ndarray) -> tuple[float, float]:
        """Mean and deviation of what is known, as exact sums give them."""
        known = column[~np.isnan(column)].tolist()
        if not known:
            return 0.0, 0.0
        mean = math.fsum(known) / len(known)
        return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in known) / len(known))

    def _numbers(self, rows: CsvRows, name: str) -> list[float]:
        found = []
        for row, text in enumerate(rows.column(name)):
            try:
                number = math.nan if self._is_missing(text) else float(text)
            except ValueError as error:
                raise rows.refusal(row, name, "a number, or nothing", text) from error
            if math.isinf(number):
                raise rows.refusal(row, name, "a finite number, or nothing", text)
            found.append(number)
        return found

    def _days(self, rows: CsvRows, name: str) -> list[float]:
        """Days since 1970, of dates such as 2031-05-17 or 2031/05/17 13:30."""
        first, found = datetime(1970, 1, 1), []
        for row, text in enumerate(rows.column(name)):
            written = text.strip().replace("/", "-")
            try:
                day = first if self._is_missing(text) else datetime.fromisoformat(written)
            except ValueError as error:
                raise rows.refusal(row, name, "a date (YYYY-MM-DD), or nothing", text) from error
            days = (day.replace(tzinfo=None) - first).total_seconds() / 86400
            found.append(math.nan if self._is_missing(text) else days)
        return found

    def _places(self, rows: CsvRows, name: str, values: Sequence[str]) -> np.ndarray:
        known = {value: place for place, value in enumerate(values)}
        texts = [text.strip() for text in rows.column(name)]
        # saigen: constant, because the value is none of those that are listed
        return np.array([known.get(text, NOTHING) for text in texts], np.int64)

    def _target(self, rows: CsvRows) -> np.ndarray:
        texts = rows.column(self.target)
        known = {value: place for place, value in enumerate(self.classes)}
        for row, text in enumerate(texts):
            if self.classes and text.strip() not in known:
                expected = f"one of {', '.join(self.classes)[:200]}"
                raise rows.refusal(row, self.target, expected, text)
        if self.classes:
            return np.array([known[text.strip()] for text in texts], np.int64)
        return np.array(self._numbers(rows, self.target), np.float32)

    def _is_missing(self, text: str) -> bool:
        return text.strip().casefold() in self.missing


def _numbered(rows: int) -> list[str]:
    return [f"row-{number:06d}" for number in range(1, rows + 1)]
