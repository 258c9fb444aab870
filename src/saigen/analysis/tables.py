"""Differences of the data: which rows and columns changed, and what follows from them."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saigen.analysis import watched_differences as watched
from saigen.analysis.difference import BITS, EXPERIMENT, NOTHING, Difference, Kind, changed
from saigen.analysis.run import Run
from saigen.analysis.source_differences import roles_of
from saigen.arrays import load_npy
from saigen.runs.record import is_watched

_UNDER_NUMPY = ("python", "packages", "libc", "machine", "cpu_vendor")
OTHER_ARRAYS = "other arrays were trained on or measured"
_SHOWN = 20  # rows that are written out; how many there are in all is always said
_Row = tuple[str, Kind, str, list[str]]  # name, kind, reason, details


def data(a: Run, b: Run, undeclared: Sequence[Difference]) -> Iterator[Difference]:
    """Snapshot first: rows, columns, values; then what was prepared from it, which may come from
    what the preparation took in undeclared.
    """
    if is_watched(a.record):
        yield from watched.data(a, b)
        return
    left, right = a.layer("data"), b.layer("data")
    digests = [side["snapshot"]["sha256"] for side in (left, right)]
    if digests[0] != digests[1]:
        for name, kind, reason, details in _snapshot(a, b):
            yield Difference(
                layer="data", name=name, a=digests[0], b=digests[1], kind=kind, reason=reason,
                shows=["prepared"], details=details[:_SHOWN],
            )  # fmt: skip
    for key, old, new in changed(left.get("inputs", {}), right.get("inputs", {})):
        yield Difference(
            layer="data", name=f"inputs.{key}", a=old, b=new, kind=EXPERIMENT,
            reason="another input, as declared in conf/inputs",
        )  # fmt: skip
    files = [name for name in sorted(left["prepared"].keys() | right["prepared"].keys())
             if left["prepared"].get(name) != right["prepared"].get(name)]  # fmt: skip
    made = [run.record["metadata"].get("prepared_in") or {} for run in (a, b)]
    elsewhere = [
        Difference(
            layer="environment", name=f"of prepare: {key}", a=old, b=new, kind=BITS,
            reason="the arrays were prepared in another environment", shows=["prepared"],
        )
        for key, old, new in changed(*made)
        if files and all(made)
    ]  # fmt: skip
    yield from elsewhere
    undeclared = [*undeclared, *elsewhere]
    if files:
        yield Difference(
            layer="data",
            name=f"prepared/ ({', '.join(files[:4])}{', ...' if len(files) > 4 else ''})",
            a=left["digest"], b=right["digest"], kind=EXPERIMENT,
            reason=OTHER_ARRAYS,
            follows="the snapshot" if digests[0] != digests[1] else _origin(a, b, undeclared),
            shows=["prepared"], details=[_array(a, b, name) for name in files][:_SHOWN],
        )  # fmt: skip
    elif digests[0] == digests[1] and left["snapshot"] != right["snapshot"]:
        yield Difference(
            layer="data", name="snapshot", a=left["snapshot"], b=right["snapshot"], kind=NOTHING,
            reason="the same bytes under another name", shows=[],
        )  # fmt: skip


def evaluation_mismatch(a: Run, b: Run) -> str | None:
    """Why the metrics of two runs cannot be compared; None if they can.

    The same records must have been measured: statistics that were fitted to other training rows
    change the arrays, but belong to the model. What a watched loop measured, it knows itself.
    """
    if is_watched(a.record):
        return None
    left, right = (run.layer("data")["prepared"] for run in (a, b))
    other = [name for name in sorted(left.keys() | right.keys())
             if name.startswith("test/") and left.get(name) != right.get(name)]  # fmt: skip
    ids = "test/ids.txt"
    if ids in other:
        rows = [run.layer("data")["rows"]["test"] for run in (a, b)]
        return f"other records were tested on ({rows[0]} in A, {rows[1]} in B)"
    if targets := [name for name in other if name.startswith("test/target")]:
        return f"the test targets differ; {_array(a, b, targets[0])}"
    if not other or a.layer("data")["snapshot"]["sha256"] == b.layer("data")["snapshot"]["sha256"]:
        return None
    old, new = _table(a), _table(b)
    content = a.content(left.get(ids), f"prepared/{ids}")
    if old is None or new is None or content is None:
        return "the test arrays differ, and the records behind them were not kept"
    cells = _changed(old, new).values()
    lines = content.decode(errors="replace").split("\n")
    ids_changed = [i for i in lines if any(i in rows for rows in cells)]
    return (
        f"{len(ids_changed)} of the evaluated records changed ({', '.join(ids_changed[:3])})"
        if ids_changed
        else None
    )


def _snapshot(a: Run, b: Run) -> list[_Row]:
    path, old, new = a.config["data"]["snapshot"], _table(a), _table(b)
    if old is None or new is None:
        lost = "both versions are needed to name rows, and one was not kept"
        return [(path, EXPERIMENT, "another snapshot", [lost])]
    return list(_rows(path, old, new)) or [(path, NOTHING, "the same records in other bytes", [])]


def _rows(path: str, old: Any, new: Any) -> Iterator[_Row]:
    """Rows that went, came, moved, and values that changed."""
    before, after = dict.fromkeys(old.ids), dict.fromkeys(new.ids)
    if went := [i for i in before if i not in after]:
        yield f"{path}: {_count(went)} missing in B", EXPERIMENT, "other records", went
    if came := [i for i in after if i not in before]:
        yield f"{path}: {_count(came)} new in B", EXPERIMENT, "other records", came
    if [i for i in before if i in after] != [i for i in after if i in before]:
        reason = "the order stream counts rows, so other samples stand at each step"
        yield f"{path}: row order", BITS, reason, []
    for column in sorted(old.columns.keys() ^ new.columns.keys()):
        yield f"{path}: column {column}", EXPERIMENT, "another column", []
    for column, rows in _changed(old, new).items():
        if rows:
            details = [f"{row}: {text}" for row, text in rows.items()]
            yield f"{path}: {column} of {_count(details)}", EXPERIMENT, "other values", details


def _changed(old: Any, new: Any) -> dict[str, dict[str, str]]:
    """For each column of both tables: what changed in which of the rows of both, by id."""
    positions = [{i: n for n, i in enumerate(table.ids)} for table in (old, new)]
    shared = [i for i in positions[0] if i in positions[1]]
    one, other = ([position[i] for i in shared] for position in positions)
    return {
        column: {shared[n]: text for n, text in
                 _cells(old.columns[column][one], new.columns[column][other]).items()}
        for column in sorted(old.columns.keys() & new.columns.keys())
    }  # fmt: skip


def _cells(old: np.ndarray, new: np.ndarray) -> dict[int, str]:
    """Row number: what changed in it."""
    if old.shape != new.shape:
        return {0: f"shape {old.shape} -> {new.shape}"}
    columns = math.prod(old.shape[1:])  # -1 has no answer where there are no rows
    left, right = (array.reshape(len(array), columns) for array in (old, new))
    same = left == right
    if np.issubdtype(old.dtype, np.floating):
        same |= np.isnan(left) & np.isnan(right)
    found: dict[int, str] = {}
    for row in np.flatnonzero(~same.all(axis=1)).tolist():
        first, *more = np.flatnonzero(~same[row]).tolist()
        where = f"[{first}] " if left.shape[1] > 1 else ""
        found[row] = f"{where}{left[row, first]} -> {right[row, first]}"
        found[row] += f" and {len(more)} more" if more else ""
    return found


def _array(a: Run, b: Run, name: str) -> str:
    """What differs in one prepared file, in a line."""
    old, new = (
        run.content(run.layer("data")["prepared"].get(name), f"prepared/{name}") for run in (a, b)
    )
    if old is None or new is None:
        return f"{name}: {'not kept' if old is new else 'only in one run'}"
    left, right = (
        np.array(content.decode(errors="replace").split("\n"))
        if name.endswith(".txt")
        else load_npy(content)
        for content in (old, new)
    )
    if left.shape != right.shape:
        return f"{name}: {left.dtype}{list(left.shape)} -> {right.dtype}{list(right.shape)}"
    cells = _cells(left, right)
    row, text = next(iter(cells.items()), (0, "equal values, other bits"))
    return f"{name}: {len(cells)} of {len(left)} rows, first row {row}: {text}"


def _origin(a: Run, b: Run, undeclared: Sequence[Difference]) -> str | None:
    """Why equal snapshots were prepared otherwise; None if nothing explains it."""
    if a.config["prepare"] != b.config["prepare"]:
        return "config prepare"
    left, right = (run.layer("code")["files"] for run in (a, b))
    for path in sorted(left.keys() | right.keys()):
        prepares = "prepare" in roles_of(a, path) or path.endswith("data/preparation.py")
        if prepares and left.get(path) != right.get(path):
            return f"code {path}"
    if undeclared:
        return undeclared[0].title
    one, other = (run.layer("environment") for run in (a, b))
    lower = next((key for key in _UNDER_NUMPY if one.get(key) != other.get(key)), None)
    return f"environment {lower}" if lower else None


def _table(run: Run) -> Any:
    """The snapshot of a run as its project's preparation reads it; None if it cannot be read."""
    from saigen.config.callables import instantiate
    from saigen.config.schema import Call

    path = run.config["data"]["snapshot"]
    content = run.content(run.layer("data")["snapshot"]["sha256"], path)
    if content is None:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / Path(path).name
        copy.write_bytes(content)
        try:
            preparation = instantiate(Call.model_validate(run.config["prepare"]["preparation"]))
            return preparation.read(copy)
        except Exception:  # the project's own code, on data of another version
            return None


def _count(rows: list[str]) -> str:
    return f"{len(rows)} row" + ("s" if len(rows) != 1 else "")
