"""Replay the step in which two runs part: the first module, then operation, with equal inputs and
unequal outputs.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from saigen.analysis.diff import Deep, Diff
from saigen.analysis.observed_differences import variables
from saigen.analysis.run import Run
from saigen.analysis.sandbox import workplace_of
from saigen.documents import copy_regular, regular
from saigen.errors import Refusal
from saigen.runs.folders import RUNS
from saigen.training.checkpoint import adopt

_Entry = dict[str, Any]


def deep(a: Run, b: Run, found: Diff) -> Deep:
    """Replay both runs from the checkpoint nearest to where they part, and compare.

    Each is replayed with its own source, data and config, on this machine. Raises Refusal if
    the runs do not part in a step, or if a run's own content was not kept.
    """
    step = -1 if found.trace.phase == "initial weights" else found.trace.step
    if step is None:
        raise Refusal(
            "there is no step to replay",
            where="saigen diff --deep",
            expected="two runs whose traces part at a step",
            got=found.trace.words,
            fix="`saigen diff` without --deep names what differs",
        )
    with tempfile.TemporaryDirectory(prefix="saigen-deep-") as scratch:
        logs = [_replay(run, step, Path(scratch) / n) for run, n in ((a, "a"), (b, "b"))]
    return _compare(*logs, step=step)


def _replay(run: Run, step: int, target: Path) -> list[_Entry]:
    workplace = workplace_of(run, target)
    _lay_checkpoint(run, step, target / RUNS / f"{run.record['recipe']['digest'][:12]}-1")
    values = run.full_config()
    # one process that runs every operation by itself
    values["hardware"] |= {"processes": 1, "loader_workers": 0, "compile": False}
    log = target / "operations"
    environment = {**run.layer("environment")["variables"], **variables(run)}
    _, output = workplace.train(values, environment, {"operations": [step, str(log)]})
    entries = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if not entries:
        raise Refusal(
            "a run cannot be replayed here",
            where=str(run.folder),
            expected=f"its step {step}, operation by operation",
            got=output[-400:],
            fix="mend what it says, or replay where the run was made",
        )
    return [json.loads(line) for line in entries]


def _lay_checkpoint(run: Run, step: int, folder: Path) -> None:
    """Where the run stood before the step, as an interrupted run. Nothing, if it kept nothing of
    that time: then it is replayed from the start.
    """
    kept = [f for f in sorted(run.folder.glob("checkpoints/step-*"))
            if f.name[5:].isdecimal() and int(f.name[5:]) <= step]  # fmt: skip
    if kept and (run.folder / "trace.bin").is_file():
        copy = folder / "checkpoints" / kept[-1].name
        copy_regular(kept[-1], copy)
        adopt(copy, folder, run.record["recipe"]["digest"])
        for name in ("trace.bin", "history.csv", "tensors.bin"):
            if path := regular(run.folder, name):
                shutil.copyfile(path, folder / name)


def _compare(left: list[_Entry], right: list[_Entry], *, step: int) -> Deep:
    """The first operations with other outputs."""
    when = "while the model is built" if step < 0 else f"in step {step}"
    if begun := [entry["begun"] for entry in (*left, *right) if "begun" in entry]:
        when += f" (replayed from step {min(begun)})"
    sides = ([entry for entry in log if "name" in entry] for log in (left, right))
    for one, other in zip(*sides, strict=False):
        if one["name"] != other["name"]:
            why = "A and B do different things here"
        elif one["out"] != other["out"]:
            why = _why(one["in"], other["in"])
        else:
            continue
        line, module = other["line"] or one["line"] or None, one["module"]
        inside = f" in {module}" if module else ""
        at = f" at {line}" if line else " (in the backward pass or the update)"
        name = one["name"] if one["name"] == other["name"] else f"{one['name']} / {other['name']}"
        words = f"{when}: {name}{inside}{at}: {why}"
        return Deep(step=step, module=module, operation=name, line=line, words=words)
    words = f"replayed here, nothing parts {when}: the cause is not in source, data or config"
    return Deep(step=step, module=None, operation=None, line=None, words=words)


def _why(one: list[str], other: list[str]) -> str:
    """What went in otherwise: numbers are said, tensors come from outside of torch's operations."""
    if one == other:
        return "equal inputs, unequal outputs"
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
    numbers = [f"{a} -> {b}" for a, b in pairs if a[0] != "#" and b[0] != "#"]
    if numbers:
        return f"its arguments are others ({', '.join(numbers)})"
    return "its inputs differ already, and no operation made them so"
