"""Differences of the data: which rows and columns changed, and what follows from them."""

import io
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from saigen.judgement.comparing.difference import BITS, EXPERIMENT, NOTHING, Difference
from saigen.judgement.run import Run

_SHOWN = 20  # rows that are written out; how many there are in all is always said


def data(a: Run, b: Run) -> Iterator[Difference]:
    """Snapshot first: rows, columns, values; then what was prepared from it."""
    left, right = a.layer("data"), b.layer("data")
    other_snapshot = left["snapshot"]["sha256"] != right["snapshot"]["sha256"]
    if other_snapshot:
        yield from _snapshot(a, b)
    files = [name for name in sorted(left["prepared"].keys() | right["prepared"].keys())
             if left["prepared"].get(name) != right["prepared"].get(name)]  # fmt: skip
    if files:
        yield Difference(
            layer="data",
            name=f"prepared/ ({', '.join(files[:4])}{', ...' if len(files) > 4 else ''})",
            a=left["digest"], b=right["digest"], kind=EXPERIMENT,
            reason="other arrays were trained on or measured",
            follows="the snapshot" if other_snapshot else _origin(a, b),
            shows=["prepared"],
            details=[text for name in files for text in _array(a, b, name)][:_SHOWN],
        )  # fmt: skip
    elif other_snapshot is False and left["snapshot"] != right["snapshot"]:
        yield Difference(
            layer="data", name="snapshot", a=left["snapshot"], b=right["snapshot"], kind=NOTHING,
            reason="the same bytes under another name", shows=[],
        )  # fmt: skip


def evaluation_mismatch(a: Run, b: Run) -> str | None:
    """Why the metrics of two runs cannot be compared; None if they can.

    The same records must have been measured: statistics that were fitted to other training rows
    change the arrays, but belong to the model.
    """
    left, right = (run.layer("data")["prepared"] for run in (a, b))
    ids = "evaluation/ids.txt"
    if left.get(ids) != right.get(ids):
        rows = [run.layer("data")["rows"]["evaluation"] for run in (a, b)]
        return f"other records were evaluated ({rows[0]} in A, {rows[1]} in B)"
    targets = [n for n in sorted(left.keys() | right.keys()) if n.startswith("evaluation/target")]
    if other := [name for name in targets if left.get(name) != right.get(name)]:
        return "; ".join(["the evaluation targets differ", *_array(a, b, other[0])[:1]])
    if a.layer("data")["snapshot"]["sha256"] == b.layer("data")["snapshot"]["sha256"]:
        return None
    changed = [n for n in left if n.startswith("evaluation/") and left[n] != right.get(n)]
    if not changed:
        return None
    tables = (_table(a), _table(b))
    content = a.content(left.get(ids), f"prepared/{ids}")
    if tables[0] is None or tables[1] is None or content is None:
        return "the evaluation arrays differ, and the records behind them were not kept"
    chosen = set(content.decode().splitlines())
    rows = [i for i in _changed_rows(*tables) if i in chosen]
    return f"{len(rows)} of the evaluated records changed ({', '.join(rows[:3])})" if rows else None


def _snapshot(a: Run, b: Run) -> Iterator[Difference]:
    path = a.config["data"]["snapshot"]
    digests = [run.layer("data")["snapshot"]["sha256"] for run in (a, b)]
    told = {"layer": "data", "a": digests[0], "b": digests[1], "shows": ["prepared"]}
    tables = (_table(a), _table(b))
    if tables[0] is None or tables[1] is None:
        yield Difference(
            **told, name=path, kind=EXPERIMENT, reason="another snapshot",
            details=["both versions are needed to name rows, and one was not kept"],
        )  # fmt: skip
        return
    differences = list(_rows(path, told, *tables))
    if not differences:
        differences = [Difference(
            **told, name=path, kind=NOTHING, reason="the same records in other bytes",
        )]  # fmt: skip
    yield from differences


def _rows(path: str, told: dict[str, Any], old: Any, new: Any) -> Iterator[Difference]:
    """Rows that went, came, moved, and values that changed."""
    before, after = dict.fromkeys(old.ids), dict.fromkeys(new.ids)
    for word, rows in (
        ("missing in B", [i for i in old.ids if i not in after]),
        ("new in B", [i for i in new.ids if i not in before]),
    ):
        if rows:
            yield Difference(
                **told, name=f"{path}: {_count(rows)} {word}", kind=EXPERIMENT,
                reason="other records", details=rows[:_SHOWN],
            )  # fmt: skip
    shared = [i for i in old.ids if i in after]
    if shared != [i for i in new.ids if i in before]:
        yield Difference(
            **told, name=f"{path}: row order", kind=BITS,
            reason="the order stream counts rows, so other samples stand at each step",
        )  # fmt: skip
    places = [{i: n for n, i in enumerate(table.ids)} for table in (old, new)]
    rows_old, rows_new = ([place[i] for i in shared] for place in places)
    for column in sorted(old.columns.keys() | new.columns.keys()):
        if column not in old.columns or column not in new.columns:
            yield Difference(
                **told, name=f"{path}: column {column}", kind=EXPERIMENT, reason="another column",
            )  # fmt: skip
            continue
        values = old.columns[column][rows_old], new.columns[column][rows_new]
        cells = _cells(*values)
        if cells:
            rows = [shared[n] for n in cells]
            told_rows = [f"{i}: {text}" for i, text in zip(rows, cells.values(), strict=True)]
            yield Difference(
                **told, name=f"{path}: {column} of {_count(rows)}", kind=EXPERIMENT,
                reason="other values", details=told_rows[:_SHOWN],
            )  # fmt: skip


def _cells(old: np.ndarray, new: np.ndarray) -> dict[int, str]:
    """Row number: what changed in it."""
    if old.shape != new.shape:
        return {0: f"shape {old.shape} -> {new.shape}"}
    flat = [array.reshape(len(array), -1) for array in (old, new)]
    same = flat[0] == flat[1]
    if np.issubdtype(old.dtype, np.floating):
        same |= np.isnan(flat[0]) & np.isnan(flat[1])
    found: dict[int, str] = {}
    for row in np.flatnonzero(~same.all(axis=1)).tolist():
        places = np.flatnonzero(~same[row]).tolist()
        first = f"{flat[0][row, places[0]]} -> {flat[1][row, places[0]]}"
        where = f"[{places[0]}] " if flat[0].shape[1] > 1 else ""
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        found[row] = f"{where}{first}{more}"
    return found


def _changed_rows(old: Any, new: Any) -> list[str]:
    places = [{i: n for n, i in enumerate(table.ids)} for table in (old, new)]
    shared = [i for i in old.ids if i in places[1]]
    rows = [[place[i] for i in shared] for place in places]
    found: dict[str, None] = {}
    for column in old.columns.keys() & new.columns.keys():
        for n in _cells(old.columns[column][rows[0]], new.columns[column][rows[1]]):
            found[shared[n]] = None
    return list(found)


def _array(a: Run, b: Run, name: str) -> list[str]:
    """What differs in one prepared file, in a line."""
    contents = [
        run.content(run.layer("data")["prepared"].get(name), f"prepared/{name}") for run in (a, b)
    ]
    if contents[0] is None or contents[1] is None:
        return [f"{name}: only in one run" if any(contents) else f"{name}: not kept"]
    if name.endswith(".txt"):
        ids = [content.decode().splitlines() for content in contents if content is not None]
        went, came = set(ids[0]) - set(ids[1]), set(ids[1]) - set(ids[0])
        return [f"{name}: {len(went)} records went, {len(came)} came"
                if went or came else f"{name}: the same records in another order"]  # fmt: skip
    arrays = [np.load(io.BytesIO(c), allow_pickle=False) for c in contents if c is not None]
    if arrays[0].shape != arrays[1].shape or arrays[0].dtype != arrays[1].dtype:
        told = [f"{array.dtype}{list(array.shape)}" for array in arrays]
        return [f"{name}: {told[0]} -> {told[1]}"]
    cells = _cells(*arrays)
    row, text = next(iter(cells.items()), (0, "equal values, other bits"))
    return [f"{name}: {len(cells)} of {len(arrays[0])} rows, first row {row}: {text}"]


def _origin(a: Run, b: Run) -> str | None:
    """Why equal snapshots were prepared otherwise; None if nothing explains it."""
    if a.config["prepare"] != b.config["prepare"]:
        return "config prepare"
    module = str(a.config["prepare"]["preparation"]["_target_"]).rpartition(".")[0]
    tail = str(PurePosixPath(*module.split("."))) + ".py"
    codes: list[Mapping[str, str]] = [run.layer("code")["files"] for run in (a, b)]
    for path in sorted(codes[0].keys() | codes[1].keys()):
        if path.endswith((tail, "training/preparation.py")) and codes[0].get(path) != codes[1].get(
            path
        ):
            return f"code {path}"
    return None


def _table(run: Run) -> Any:
    """The snapshot of a run as its project's preparation reads it; None if it cannot be read."""
    from saigen.recipe.callables.callees import instantiate
    from saigen.recipe.schema import Call

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
