"""Replay the step in which two runs part: the first module, then operation, with equal inputs and
unequal outputs.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from saigen.judgement.comparing.diff import Deep, Diff
from saigen.judgement.proving.workplace import Workplace
from saigen.judgement.remaking.remake import lay_snapshot, lay_source, train_there
from saigen.judgement.run import Run
from saigen.records.runs import RUNS
from saigen.refusal import Refusal

_Entry = dict[str, Any]


def deep(a: Run, b: Run, found: Diff, root: Path) -> Deep:
    """Replay both runs from the checkpoint nearest to where they part, and compare.

    Each is replayed with its own source, data and config, on this machine. Raises Refusal if
    the runs do not part in a step, or if a run's own content was not kept.
    """
    initial = found.trace.place == "initial weights"
    if not initial and (found.trace.step is None or found.trace.step >= found.trace.steps + 1):
        raise Refusal(
            "there is no step to replay",
            where="saigen diff --deep",
            expected="two runs whose traces part at a step",
            got=found.trace.words,
            fix="`saigen diff` without --deep names what differs",
        )
    step = -1 if initial or found.trace.step is None else found.trace.step
    with tempfile.TemporaryDirectory(prefix="saigen-deep-") as scratch:
        logs = [_replay(run, step, root, Path(scratch) / n) for run, n in ((a, "a"), (b, "b"))]
    return _compare(*logs, step=step)


def _replay(run: Run, step: int, root: Path, scratch: Path) -> list[_Entry]:
    place = Workplace(root.resolve(), scratch / "project")
    lay_source(run, place.root)
    lay_snapshot(run, place.root)
    _lay_checkpoint(run, step, place.root / RUNS / f"{run.record['recipe']['digest'][:12]}-1")
    values = run.full_config()
    # one process that runs every operation by itself
    values["hardware"] |= {"processes": 1, "loader_workers": 0, "compile": False}
    log = scratch / "operations"
    said = scratch / "log"
    train_there(
        place, values, {"operations": [step, str(log)]},
        environment=run.layer("environment")["variables"], log=said,
    )  # fmt: skip
    entries = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if not entries:
        raise Refusal(
            "a run cannot be replayed here",
            where=str(run.folder),
            expected=f"its step {step}, operation by operation",
            got=" ".join(said.read_text(encoding="utf-8").split())[-400:],
            fix="mend what it says, or replay where the run was made",
        )
    return [json.loads(line) for line in entries]


def _lay_checkpoint(run: Run, step: int, folder: Path) -> None:
    """Where the run stood before the step, as an interrupted run. Nothing, if it kept nothing of
    that time: then it is replayed from the start.
    """
    kept = [f for f in sorted(run.folder.glob("checkpoints/step-*"))
            if int(f.name.removeprefix("step-")) <= step]  # fmt: skip
    if kept and (run.folder / "trace.bin").is_file():
        shutil.copytree(kept[-1], folder / "checkpoints" / kept[-1].name)
        for name in ("trace.bin", "history.csv"):
            shutil.copyfile(run.folder / name, folder / name)


def _compare(left: list[_Entry], right: list[_Entry], *, step: int) -> Deep:
    """The first entries that part: of operations, and of modules."""
    module = next((e for e in _parted(left, right, "module")), None)
    operation = next((e for e in _parted(left, right, "operation")), None)
    when = "while the model is built" if step < 0 else f"in step {step}"
    if begun := [e["step"] for log in (left, right) for e in log if e["kind"] == "begin"]:
        when += f" (replayed from step {min(begun)})"
    if operation is None:
        words = f"replayed here, nothing parts {when}: the cause is not in source, data or config"
        return Deep(step=step, module=None, operation=None, line=None, words=words)
    one, other, why = operation
    line = other["line"] or one["line"] or None
    of = module[0] if module and module[2] == "equal inputs, unequal outputs" else one
    where = of.get("module")
    told = f" in {where}" if where else ""
    at = f" at {line}" if line else " (in the backward pass or the update)"
    name = one["name"] if one["name"] == other["name"] else f"{one['name']} / {other['name']}"
    return Deep(
        step=step, module=where, operation=name, line=line, words=f"{when}: {name}{told}{at}: {why}"
    )


def _parted(left: list[_Entry], right: list[_Entry], kind: str) -> Any:
    pairs = zip(
        (entry for entry in left if entry["kind"] == kind),
        (entry for entry in right if entry["kind"] == kind),
        strict=False,
    )
    for one, other in pairs:
        if one["name"] != other["name"]:
            yield one, other, "A and B do different things here"
        elif one["in"] == other["in"] and one["out"] != other["out"]:
            yield one, other, "equal inputs, unequal outputs"
        elif one["in"] != other["in"] and one["out"] != other["out"]:
            yield one, other, _inputs(one["in"], other["in"])


def _inputs(one: list[str], other: list[str]) -> str:
    """What went in otherwise: numbers are said, tensors come from outside of torch's operations."""
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
    numbers = [f"{a} -> {b}" for a, b in pairs if a[0] != "#" and b[0] != "#"]
    if numbers:
        return f"its arguments are others ({', '.join(numbers)})"
    return "its inputs differ already, and no operation made them so"
