"""`saigen init-data FILE`: from a table to a project that trains on it, for its owner to change.

The snapshot is the table as CSV in UTF-8; its provenance says where it came from and what was left
out. What is written besides is plain source and YAML of the project.
"""

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from saigen import git_dvc
from saigen.digest import digest_bytes, digest_file
from saigen.errors import Failure, Refusal
from saigen.files import json_bytes, write_whole
from saigen.printing import one_line
from saigen.starting import example, init
from saigen.starting.columns import (
    MISSING,
    Column,
    RawTable,
    classes_of,
    is_missing,
    kind_of,
    read_table,
)

_LIKELY = ("target", "label", "class", "y")
_STEPS = 600  # fewest of a first training
_MOST_STEPS = 20_000
_BATCH = 32
_TRAINS = 0.7  # of the records, as conf/prepare of the example has it
_SMALL = 20 << 20  # bytes that git may keep with the project, in the remote `snapshots`
_TABLE = Path(__file__).parent / "table"


@dataclass(frozen=True)
class Plan:
    """What is made of a table."""

    name: str
    target: str
    classes: tuple[str, ...]  # none: the target is a number
    columns: tuple[Column, ...]  # the target is none of them
    table: RawTable  # the rows whose target is known
    left_out: int  # rows without a target

    def names(self, kind: str) -> list[str]:
        """The columns of a kind."""
        return [column.name for column in self.columns if column.kind == kind]


def init_data(
    root: Path, path: Path, given: Mapping[str, str | None], say: Callable[[str], None]
) -> None:
    """Write snapshot, provenance, configs and source for a table.

    `given`: name, target and task, or None. Raises Refusal before anything is written.
    """
    _refuse_example(root)
    plan = _plan(read_table(path), path, given)
    files = _files(root, path, plan)
    _refuse_other(root, files)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(root / name, content)
    picked = {"data": plan.name, "prepare": plan.name, "model": "mlp",
              "task": "classification" if plan.classes else "regression"}  # fmt: skip
    example.pick(root, picked)
    _set_numbers(root, plan)
    say("\n".join(str(column) for column in plan.columns))
    kind = f"one of {len(plan.classes)} classes" if plan.classes else "a number"
    say(f"{one_line(plan.target)}: the target, {kind}; {_conditions(plan)}")
    say(f"wrote {', '.join(files)}; picked them in {example.CONFIG}, and metric, margin, epochs in "
        "conf/trainer/default.yaml and conf/comparison/difference.yaml")  # fmt: skip
    _track(root, say)
    say("next: make train (or saigen train); then change what you like, first "
        f"conf/prepare/{plan.name}.yaml")  # fmt: skip


def _plan(table: RawTable, path: Path, given: Mapping[str, str | None]) -> Plan:
    target = _target(table, path, given["target"])
    rows = [row for row, cell in zip(table.rows, table.column(target), strict=True)
            if not is_missing(cell)]  # fmt: skip
    known = RawTable(table.names, rows, table.written)
    classes = _classes(known, path, target, given["task"])
    _refuse_ids(known, path)
    columns = tuple(kind_of(known, name) for name in table.names if name not in (target, "id"))
    if all(column.kind == "left out" for column in columns):
        raise Refusal(
            "no column is of use to a first model",
            where=str(path),
            expected="a column of numbers, dates, or of a few values that stand often",
            got="; ".join(map(str, columns))[:300],
            fix="make numbers of what the columns hold, or write src/project/prepare.py by hand",
        )
    stem = re.sub(r"\W+", "_", path.stem.lower(), flags=re.ASCII).strip("_")
    name = given["name"] or stem or "table"
    if not re.fullmatch(r"[A-Za-z0-9_]{1,60}", name):
        raise Refusal(
            "this is no name for a data set",
            where="--name",
            expected="letters, digits and _",
            got=repr(name),
            fix=f"--name {stem or 'table'}",
        )
    return Plan(name, target, classes, columns, known, len(table.rows) - len(rows))


def _refuse_ids(table: RawTable, path: Path) -> None:
    ids = table.column("id") if "id" in table.names else []
    if len(set(ids)) < len(ids) or any(map(is_missing, ids)):
        raise Refusal(
            "the column id does not name one row each",
            where=f"{path}: id",
            expected="no column of this name, or another text in every row",
            got="one that stands twice, or is empty",
            fix="give the column another name in the first line",
        )


def _target(table: RawTable, path: Path, given: str | None) -> str:
    names = [name for name in table.names if name != "id"]
    likely = [name for name in names if name.casefold() in _LIKELY]
    target = given or (likely[0] if len(likely) == 1 else None)
    if target is None and sys.stdin.isatty():
        target = input(f"column to predict ({', '.join(map(one_line, names))}): ").strip()
    if target not in names:
        raise Refusal(
            "no column of the table is the target"
            if target
            else "which column is to be predicted?",
            where=f"--target ({path})",
            expected=f"one of {', '.join(map(one_line, names))[:400]}",
            got=repr(target) if target else "no --target",
            fix=f"saigen init-data {path} --target '{one_line(names[-1])}', or another of them",
        )
    return target


def _classes(table: RawTable, path: Path, target: str, task: str | None) -> tuple[str, ...]:
    """The classes of the target; none where it is a number."""
    found, column = classes_of(table, target), kind_of(table, target)
    possible = (["classification"] if found else []) + (
        ["regression"] if column.kind == "number" else []
    )
    if not possible or (task and task not in possible):
        raise Refusal(
            "the target cannot be learned so" if possible else "the target cannot be learned",
            where=f"{path}: {one_line(target)}",
            expected=f"{task} of it" if task in ("classification", "regression")
            else "a number, or one of 2 to 50 values that stand 5 times or more on average",
            got=str(column),
            fix=f"--task {possible[0]}" if possible else "name another --target, or make classes "
            "of its values",
        )  # fmt: skip
    return () if (task or possible[0]) == "regression" else tuple(found or ())


def _files(root: Path, path: Path, plan: Plan) -> dict[str, bytes]:
    """What is written, by path from the root. What a table shares with the example is taken from
    it, so that a key which an instrument needs stands there, too.
    """
    kept = root / example.KEPT
    snapshot, provenance = f"data/{plan.name}.csv", f"data/{plan.name}_provenance.json"
    content = _snapshot(plan)
    data = _read(kept / "conf/data/digits.yaml")
    for key, value in {"name": plan.name, "snapshot": snapshot, "provenance": provenance}.items():
        data = re.sub(rf"^{key}: \S+", f"{key}: {value}", data, flags=re.M)
    head, mark, _ = _read(kept / "conf/prepare/standardize.yaml").partition("preparation:\n")
    head = head.replace("saigen-digits-1", f"{plan.name}-1")
    model = _read(kept / "conf/model/mlp.yaml")
    for key, value in {"inputs": "fitted:features", "outputs": "fitted:outputs"}.items():
        model = re.sub(rf"^{key}: \S+ *#.*", f"{key}: {value}  # as the preparation counts them",
                       model, flags=re.M)  # fmt: skip
    files: dict[str, str | bytes] = {
        snapshot: content,
        provenance: json_bytes(_provenance(path, plan, content)),
        f"conf/data/{plan.name}.yaml": data.replace("project.data.Digits", "project.data.Rows"),
        f"conf/prepare/{plan.name}.yaml": head + mark + _preparation(plan),
        "conf/model/mlp.yaml": model,
        "src/project/models/mlp.py": _read(kept / "src/project/models/mlp.py"),
    }
    files |= {f"src/project/{name}": _read(_TABLE / name) for name in ("data.py", "prepare.py")}
    if plan.classes:
        files["conf/task/classification.yaml"] = _read(kept / "conf/task/classification.yaml")
        files["src/project/task.py"] = _read(kept / "src/project/task.py")
    else:
        files["conf/task/regression.yaml"] = _REGRESSION
        files["src/project/task.py"] = _read(_TABLE / "task.py")
    return {n: c if isinstance(c, bytes) else c.encode() for n, c in files.items()}


_REGRESSION = """\
_target_: project.task.Regression    # a number for each input
center: fitted:center               # mean of the target over the training split
scale: fitted:spread                # and its deviation: the unit of the network's output
"""


def _preparation(plan: Plan) -> str:
    gaps = [c.name for c in plan.columns if c.kind in ("number", "date") and c.empty]
    groups = [[c.name, *c.values] for c in plan.columns if c.kind == "category"]
    lines = [f"  # {column}" for column in plan.columns if column.kind == "left out"]
    rows: list[tuple[str, object, str]] = [
        ("numbers", plan.names("number"), "centred and scaled"),
        ("dates", plan.names("date"), "the same, as days"),
        ("may_lack", gaps, "of these whether they are empty is told, too"),
        ("categories", groups, "each a column, then its values; another value is none of them"),
        ("classes", plan.classes, "of the target, in the order of the outputs; none: a number"),
        ("missing", MISSING, "what an empty cell may hold, in any case"),
    ]
    lines += [
        "  _target_: project.prepare.Columns",
        f"  target: {_yaml(plan.target)}",
        *(f"  {key}: {_yaml(value)}  # {comment}" for key, value, comment in rows),
        "  epsilon: 1.0e-06  # added to each deviation",
    ]
    return "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    """A text or lists of texts in YAML's flow style, each text in quotes; `${` is no reference."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    assert isinstance(value, Sequence)
    return "[" + ", ".join(map(_yaml, value)) + "]"


def _snapshot(plan: Plan) -> bytes:
    """The table as CSV, with an id for each row; an empty cell is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_id = "id" in plan.table.names
    writer.writerow([*([] if has_id else ["id"]), *plan.table.names])
    for number, row in enumerate(plan.table.rows, 1):
        cells = ["" if is_missing(cell) else cell.strip() for cell in row]
        writer.writerow([*([] if has_id else [f"row-{number:06d}"]), *cells])
    return text.getvalue().encode()


def _provenance(path: Path, plan: Plan, content: bytes) -> dict[str, object]:
    ids = "" if "id" in plan.table.names else "; id is the number of the row"
    return {
        "name": plan.name,
        "file": f"{plan.name}.csv",
        "sha256": digest_bytes(content),
        "rows": len(plan.table.rows),
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": f"{path.name}, sha256 {digest_file(path)}; where that came from: not said yet",
        "conditions": _conditions(plan),
        "processing": f"written from {plan.table.written} as CSV in UTF-8 by `saigen init-data`; "
        f"cells of missing values emptied, spaces around cells removed{ids}",
    }


def _conditions(plan: Plan) -> str:
    out = f", {plan.left_out} without {one_line(plan.target)} left out" if plan.left_out else ""
    return f"{len(plan.table.rows)} rows{out}"


def _set_numbers(root: Path, plan: Plan) -> None:
    """Metric, margin, batch and length of a first training, in the project's own conf/."""
    trained = int(len(plan.table.rows) * _TRAINS)
    batch = min(_BATCH, 1 << max(trained // 2, 1).bit_length() - 1)
    a_pass = max(trained // batch, 1)
    epochs = max(min(max(40, -(-_STEPS // a_pass)), _MOST_STEPS // a_pass), 1)
    metric, mode = ("accuracy", "max") if plan.classes else ("rmse", "min")
    _edit(
        root / "conf/trainer/default.yaml",
        {"max_epochs": epochs, "batch_size": batch, "monitor": metric, "monitor_mode": mode},
    )
    margin = "0.02" if plan.classes else f"{_spread(plan) / 20:.1g}"
    _edit(root / "conf/comparison/difference.yaml",
          {"metric": metric, "mode": mode, "margin": float(margin)})  # fmt: skip


def _spread(plan: Plan) -> float:
    values = sorted(float(cell) for cell in plan.table.column(plan.target))
    return (values[3 * len(values) // 4] - values[len(values) // 4]) or values[-1] - values[0]


def _edit(path: Path, values: Mapping[str, object]) -> None:
    text = _read(path)
    for key, value in values.items():
        text = re.sub(rf"^{key}: \S+", f"{key}: {value}", text, count=1, flags=re.M)
    write_whole(path, text.encode())


def _track(root: Path, say: Callable[[str], None]) -> None:
    """Give the snapshot to DVC; a small one also to the remote that git carries along."""
    done = git_dvc.dvc(root, "add", "--quiet", "data")
    if done.returncode:
        raise Failure(
            "DVC did not take the snapshot; the rest is written",
            where="data",
            expected="`dvc add data`",
            got=done.stderr.decode(errors="replace").strip()[-300:],
            fix="mend that (without a repository: `git init`), then `dvc add data`",
        )
    size = sum(path.stat().st_size for path in (root / "data").rglob("*") if path.is_file())
    if size < _SMALL and init.remote(root, "snapshots"):
        git_dvc.dvc(root, "push", "--quiet", "--remote", "snapshots", "data.dvc")
        say("tracked by data.dvc; git carries the snapshot along, in .dvc/snapshots")
    else:
        say("tracked by data.dvc; `dvc remote add --default team URL && dvc push` shares it")


def _refuse_example(root: Path) -> None:
    if not (root / example.KEPT).is_dir() or example.files_here(root):
        raise Refusal(
            "the example is still here",
            where="src/project, conf",
            expected="a project without the example, whose files have the names of yours",
            got=", ".join(example.files_here(root)[:3]) + " ...",
            fix="make remove-example",
        )


def _refuse_other(root: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = root / name
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            raise Refusal(
                "a file of the project would be overwritten",
                where=name,
                expected="no such file yet",
                got="one with another content",
                fix="give the data set another --name"
                if name.startswith(("data/", "conf/data", "conf/prepare"))
                else f"rename {name} and what names it, or write conf/ for this table by hand",
            )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
