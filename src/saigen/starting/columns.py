"""What a table holds: its columns, what kind each is, and which is of no use to a first model."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from saigen.errors import Refusal
from saigen.printing import one_line

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
VALUES = 50  # most values of a category, or classes
_ROWS_A_VALUE = 5  # fewest, on average
CLASSES = 20  # most different whole numbers that are taken for classes
FEWEST_ROWS = 20
_DATE = re.compile(r"\d{4}[-/]\d\d[-/]\d\d([T ].*)?")
_PARQUET = (
    'uvx --with pyarrow --with pandas python -c "import pandas; '
    "pandas.read_parquet('{name}').to_csv('{stem}.csv', index=False)\""
)
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
Kind = Literal["number", "date", "category", "left out"]


@dataclass(frozen=True)
class Column:
    """One column: `values` of a category, sorted; `why` of one that is left out."""

    name: str
    kind: Kind
    empty: int
    values: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        told = {"category": f"category of {len(self.values)}", "left out": f"left out: {self.why}"}
        empty = f", {self.empty} empty" if self.empty else ""
        return f"{one_line(self.name)}: {told.get(self.kind, self.kind)}{empty}"


@dataclass(frozen=True)
class RawTable:
    """The cells of a table as text, empty where nothing is known."""

    names: tuple[str, ...]
    rows: list[list[str]]
    written: str  # how the file was written

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]


def is_missing(text: str) -> bool:
    """Whether a cell says that nothing is known."""
    return text.strip().casefold() in MISSING


def read_table(path: Path) -> RawTable:
    """Read a table: CSV with commas, semicolons, tabs or bars, or a JSON list of flat objects.

    Raises Refusal on anything else, with what to do.
    """
    _refuse_other(path)
    text = _text(path)
    table = _from_json(path, text) if path.suffix == ".json" else _from_csv(path, text)
    if len(set(table.names)) < len(table.names) or not all(table.names):
        twice = [n for n, times in Counter(table.names).items() if times > 1 or not n]
        raise _refusal(path, "a name for each column, and each once", f"{twice[0]!r}",
                       "name the columns in the first line")  # fmt: skip
    if len(table.rows) < FEWEST_ROWS:
        raise _refusal(path, f"{FEWEST_ROWS} rows or more", f"{len(table.rows)}",
                       "take a larger table; three splits of less say nothing")  # fmt: skip
    return table


def kind_of(table: RawTable, name: str) -> Column:
    """What kind a column is, by all of its cells."""
    cells = [text.strip() for text in table.column(name)]
    known = [text for text in cells if not is_missing(text)]
    empty, values = len(cells) - len(known), set(known)
    if not values:
        return Column(name, "left out", empty, why="it is empty")
    if len(values) == 1 and not empty:
        return Column(name, "left out", empty, why="it is the same in every row")
    if all(map(_is_number, values)):
        return Column(name, "number", empty)
    if all(map(_is_date, values)):
        return Column(name, "date", empty)
    if len(values) <= VALUES and len(values) * _ROWS_A_VALUE <= len(known):
        return Column(name, "category", empty, tuple(sorted(values)))
    return Column(name, "left out", empty, why=f"text with {len(values)} different values")


def classes_of(table: RawTable, name: str) -> tuple[str, ...] | None:
    """The values of a target that is one of a few; None where it is a number or neither."""
    column = kind_of(table, name)
    values = {text.strip() for text in table.column(name) if not is_missing(text)}
    if column.kind == "category":
        return column.values
    whole = all(_is_number(value) and float(value).is_integer() for value in values)
    if whole and len(values) <= CLASSES and len(values) * _ROWS_A_VALUE <= len(table.rows):
        return tuple(sorted(values, key=float))
    return None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    try:
        return bool(_DATE.fullmatch(text) and datetime.fromisoformat(text.replace("/", "-")))
    except ValueError:
        return False


def _refuse_other(path: Path) -> None:
    if not path.exists():
        raise _refusal(path, "a table", "no such file", "name a file that is there")
    if path.is_dir():
        raise _refusal(
            path, "a file with a table", "a folder",
            "list its files in a table (a column for the file, one for the label), and let `read` "
            "in src/project/prepare.py open them; docs/start.md shows how",
        )  # fmt: skip
    if path.suffix == ".parquet":
        fix = _PARQUET.format(name=path, stem=path.with_suffix(""))
        raise _refusal(path, "CSV or JSON", "Parquet, which no locked package reads", fix)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fix = f"iconv -f latin1 -t utf-8 {path} > {path.stem}-utf8{path.suffix}, if it is Latin-1"
        raise _refusal(path, "text in UTF-8", f"the byte 0x{error.object[error.start]:02x}",
                       fix) from error  # fmt: skip


def _from_json(path: Path, text: str) -> RawTable:
    try:
        records = json.loads(text)
        names = tuple(dict.fromkeys(key for record in records for key in record))
        rows = [[_cell(record.get(name)) for name in names] for record in records]
    except (ValueError, TypeError, AttributeError) as error:
        raise _refusal(path, "a JSON list of objects without anything nested", str(error)[:120],
                       "write it as CSV, one line a record") from error  # fmt: skip
    return RawTable(names, rows, "a JSON list")


def _cell(value: object) -> str:
    if isinstance(value, dict | list):
        raise TypeError(f"{json.dumps(value)[:60]} is nested")
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _from_csv(path: Path, text: str) -> RawTable:
    first = text.partition("\n")[0]
    delimiter = max(",;\t|", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    names: Sequence[str] = ()
    try:
        names = tuple(name.strip() for name in next(reader, ()))
        for row in reader:
            if row and len(row) != len(names):
                raise _refusal(f"{path}:{reader.line_num}", f"{len(names)} fields, as in the first "
                               "line", f"{len(row)}", "mend the row, or leave it out")  # fmt: skip
            if any(not is_missing(cell) for cell in row):
                rows.append(row)
    except csv.Error as error:
        raise _refusal(f"{path}:{reader.line_num}", "rows of CSV", str(error),
                       "mend the row; a quote in a field is written twice") from error  # fmt: skip
    if names and not names[0] and [row[0] for row in rows] == list(map(str, range(len(rows)))):
        names, rows = names[1:], [row[1:] for row in rows]  # the index that pandas writes
    return RawTable(tuple(names), rows, f"a table with {_NAMES[delimiter]}")


def _refusal(where: Path | str, expected: str, got: str, fix: str) -> Refusal:
    what = "this is no table that a project can be started from"
    return Refusal(what, where=str(where), expected=expected, got=one_line(got), fix=fix)
