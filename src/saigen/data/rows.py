"""The rows of a CSV file, where nothing is guessed: what is wrong has a file, a line and a column.

Python's own reader takes rows that are too short or too long, columns that stand twice and numbers
such as `1_0`; a preparation that reads through here does not.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saigen.errors import Refusal
from saigen.printing import one_line

_WHOLE = re.compile(r"-?[0-9]{1,18}")  # in ASCII; 18 digits fit into int64


@dataclass(frozen=True)
class CsvRows:
    """Rows as text; `lines` says where each ends in the file."""

    path: Path
    columns: tuple[str, ...]
    lines: list[int]
    cells: list[list[str]]

    def column(self, name: str) -> list[str]:
        """The texts of a column."""
        index = self.columns.index(name)
        return [row[index] for row in self.cells]

    def whole_numbers(self, names: Sequence[str], lowest: int, highest: int) -> np.ndarray:
        """The numbers of some columns, (rows, columns) int64. Raises Refusal on another text, and
        on a number out of range.
        """
        indices = [self.columns.index(name) for name in names]
        known: dict[str, int] = {}
        found = np.empty((len(self.cells), len(names)), np.int64)
        for number, row in enumerate(self.cells):
            for text in {row[index] for index in indices} - known.keys():
                if not _WHOLE.fullmatch(text) or not lowest <= int(text) <= highest:
                    name = next(name for name, p in zip(names, indices, strict=True)
                                if row[p] == text)  # fmt: skip
                    raise self.refusal(
                        number, name, f"a whole number from {lowest} to {highest}", text
                    )
                known[text] = int(text)
            found[number] = [known[row[index]] for index in indices]
        return found

    def refusal(self, row: int, column: str, expected: str, got: str) -> Refusal:
        """The refusal of one cell."""
        return _refusal(self.path, self.lines[row], f"the column {column}", expected, repr(got))


def read_rows(path: Path, needed: Sequence[str]) -> CsvRows:
    """Read a CSV file in UTF-8 whose first line names its columns, the `needed` ones among them.

    Raises Refusal on anything but rows of just these columns.
    """
    text = _text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    cells: list[list[str]] = []
    try:
        columns = tuple(next(reader, ()))
        _refuse_columns(path, columns, needed)
        for row in reader:
            if len(row) != len(columns):
                raise _refusal(
                    path, reader.line_num, "a row is too long or too short",
                    f"{len(columns)} fields, as in the first line", f"{len(row)}",
                )  # fmt: skip
            lines.append(reader.line_num)
            cells.append(row)
    except csv.Error as error:
        raise _refusal(path, reader.line_num, "a row is no CSV", "fields of at most 131072 "
                       "characters, quoted as CSV is", str(error)) from error  # fmt: skip
    if not cells:
        raise _refusal(path, 1, "the file has no rows", "a row below the first line", "none")
    return CsvRows(path, columns, lines, cells)


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")  # spreadsheets begin UTF-8 with a mark
        index = text.find("\0")
        if index < 0:
            return text
        line, got = text.count("\n", 0, index) + 1, "the character NUL"
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        got = f"the byte 0x{content[error.start]:02x}"
    raise _refusal(path, line, "the file is not text", "text in UTF-8", got)


def _refuse_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise _refusal(path, 1, "a column stands twice", "each column once", repr(twice[0]))
    if missing := [name for name in needed if name not in columns]:
        raise Refusal(
            "the file is not in the snapshot's format",
            where=f"{path}:1",
            expected=f"a CSV file with the columns {_listed(needed)}",
            got=f"no column {', '.join(missing[:5])}",
            fix="write the first line as in the snapshot",
        )


def _listed(names: Sequence[str]) -> str:
    shown = names if len(names) <= 5 else [*names[:2], "...", names[-1]]
    return ", ".join(shown).replace(", ...,", " ...")


def _refusal(path: Path, line: int, what: str, expected: str, got: str) -> Refusal:
    wrong = what.startswith("the column")
    return Refusal(
        "a row holds something else than its column" if wrong else what,
        where=f"{path}:{line}" + (f", {what}" if wrong else ""),
        expected=expected,
        got=one_line(got)[:120],
        fix="mend the row, or leave it out; a snapshot that was taken is taken anew",
    )
