"""Prove a verdict: make run B again with A's value for one suspect after another."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saigen.analysis.diff import Diff, Trial
from saigen.analysis.difference import PHASES, Difference
from saigen.analysis.divergence import Divergence, divergence
from saigen.analysis.observed_differences import is_observed, may_be_set, observed, variables
from saigen.analysis.run import ABSENT, Run, put
from saigen.analysis.sandbox import lay_snapshot, workplace_of
from saigen.analysis.verdict import suspects
from saigen.documents import is_inside, write_inside
from saigen.observing.observed import ABSENT as NOT_THERE
from saigen.runs.record import read_record

# Keys of other layers that are set in the config under another name.
_KEYS = {"python_hash_seed": "reproducibility.python_hash_seed", "processes": "hardware.processes"}


def confirm(a: Run, b: Run, found: Diff, say: Callable[[str], None]) -> list[Trial]:
    """Try the suspects of a diff, the most likely first, until B comes out as A does.

    What moved the runs closer to each other stays as in A while the next one is tried. B is made
    unchanged first: where it does not come out as B, no suspect can be judged.
    Raises Refusal if B's own source and data were not kept.
    """
    trials: list[Trial] = []
    kept: list[Difference] = []
    nearest = found.trace
    if why := _not_itself(a, b):
        return [Trial(suspect="B unchanged", result="not tried", words=why)]
    for group in _groups(suspects(found.differences, found.trace)):
        with tempfile.TemporaryDirectory(prefix="saigen-confirm-") as scratch:
            made = _make(a, b, [*kept, *group], Path(scratch))
            now = nearest if isinstance(made, str) else divergence(a, made)
            result, words = _judged(a, b, made, nearest, now)
        trial = Trial.model_validate({"suspect": group[0].title, "result": result, "words": words})
        trials.append(trial)
        say(str(trial))
        if result == "confirmed":
            break
        if result == "a part of it":
            kept += group
            nearest = now
    return trials


def _not_itself(a: Run, b: Run) -> str | None:
    """Why no suspect can be judged: B, made again unchanged, is not B. None if it is."""
    with tempfile.TemporaryDirectory(prefix="saigen-confirm-") as scratch:
        made = _make(a, b, [], Path(scratch))
        if isinstance(made, str):
            return made
        if made.outcome["digest"] == b.outcome["digest"]:
            return None
        inputs = [one.title for one in observed(made, b)]
    lies = f"in what it takes in: {', '.join(inputs)}" if inputs else "where nobody observed"
    return f"made again, B does not come out as B: the cause lies outside of its recipe, {lies}"


def _judged(
    a: Run, b: Run, made: Run | str, before: Divergence, now: Divergence
) -> tuple[str, str]:
    """What came of a trial, in a word and in a sentence."""
    if isinstance(made, str):
        return "not tried", made
    if made.outcome["digest"] == a.outcome["digest"]:
        return "confirmed", "with the value of A, B comes out as A does, bit for bit"
    if made.outcome["digest"] == b.outcome["digest"]:
        return "refuted", "with the value of A, B comes out as before"
    if _when(now) > _when(before):
        return "a part of it", f"with the value of A, {now.words}"
    return "refuted", f"it moves bits, but brings B no nearer to A ({now.words})"


def _when(parted: Divergence) -> tuple[int, int]:
    """How late two runs part."""
    if parted.phase in (None, "prepared", "initial weights"):
        return 0, 0  # before the steps, or nobody knows where
    return (1 << 60 if parted.step is None else parted.step + 1), PHASES.index(parted.phase)


def _groups(ranked: Sequence[Difference]) -> list[list[Difference]]:
    """Suspects that only make sense together: another `_target_` brings other arguments, one file
    is one change, and so is the snapshot.
    """
    targets = [d.name.removesuffix("._target_") for d in ranked
               if d.layer == "config" and d.name.endswith("._target_")]  # fmt: skip
    groups: dict[tuple[str, str], list[Difference]] = {}
    for suspect in ranked:
        name = "" if suspect.layer == "data" else suspect.name.partition(":")[0]
        if suspect.layer == "config":
            name = next((head for head in targets if name.startswith(head)), name)
        groups.setdefault((suspect.layer, name), []).append(suspect)
    return list(groups.values())


def _make(a: Run, b: Run, changes: list[Difference], scratch: Path) -> Run | str:
    """Train B's source, data and config with A's values for some differences; why not, where that
    cannot be done.
    """
    workplace = workplace_of(b, scratch / "project")
    values = b.full_config()
    environment = variables(b)
    for change in changes:
        if why := _apply(a, change, workplace.root, values, environment):
            return why
    code, output = workplace.train(values, environment)
    folder = workplace.run_folder()
    if code or folder is None:
        return f"the training did not end: {output[-300:]}"
    return Run(folder=folder, record=read_record(folder), root=workplace.root)


def _apply(
    a: Run, change: Difference, project: Path, values: dict[str, Any], environment: dict[str, str]
) -> str | None:
    """Put A's value in place; why not, where that cannot be done."""
    name = change.name
    if is_observed(change):
        return _put_input(a, change, project, environment)
    if change.layer == "data":
        path, digest = a.config["data"]["snapshot"], a.layer("data")["snapshot"]["sha256"]
        if a.content(digest, path) is None:
            return "A's snapshot was not kept"
        lay_snapshot(a, project)
    elif change.layer == "code":
        path = name.partition(":")[0]
        digest = a.source.get(path)
        content = a.content(digest, path)
        if digest is None:
            (project / path).unlink(missing_ok=True)
        elif content is None:
            return "A's source was not kept"
        else:
            write_inside(project, path, content)
    elif name.startswith("variables."):
        environment[name.removeprefix("variables.")] = str(change.a)
    else:
        name = _KEYS.get(name, name.replace("seeds.", "randomness.streams."))
        if change.layer == "environment":
            switch = name.removeprefix("switches.")
            if switch not in a.config["reproducibility"]:
                return "it needs another machine, or another set of packages"
            name = f"reproducibility.{switch}"
        put(values, name, change.a)
    return None


def _put_input(
    a: Run, change: Difference, project: Path, environment: dict[str, str]
) -> str | None:
    """Give an input that was observed as A took it in; why not, where that cannot be done."""
    kind, _, name = change.name.partition(" ")
    if kind == "variable" and may_be_set(change.a):
        environment.pop(name, None)
        if change.a not in (ABSENT, NOT_THERE):
            environment[name] = change.a
        return None
    if kind not in ("file", "module") or not is_inside(name):
        return "it is no part of the recipe, so that A's was not kept"
    if change.a in (ABSENT, NOT_THERE):
        (project / name).unlink(missing_ok=True)
        return None
    if (content := a.content(change.a, name)) is None:
        return "A's was not kept"
    write_inside(project, name, content)
    return None
