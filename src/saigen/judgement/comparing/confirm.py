"""Prove a verdict: make run B again with A's value for one suspect after another."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from saigen.judgement.comparing.diff import Diff, Trial
from saigen.judgement.comparing.difference import ABSENT, Difference
from saigen.judgement.comparing.divergence import divergence
from saigen.judgement.comparing.verdict import IN_TIME, Divergence, suspects
from saigen.judgement.proving.workplace import Workplace
from saigen.judgement.remaking.remake import lay_snapshot, lay_source, train_there, write_kept
from saigen.judgement.run import Run
from saigen.records.record import read_record


def confirm(a: Run, b: Run, found: Diff, root: Path, say: Callable[[str], None]) -> list[Trial]:
    """Try the suspects of a diff, the most likely first, until B comes out as A does.

    What moved the runs closer to each other stays as in A while the next one is tried.
    Raises Refusal if B's own source and data were not kept.
    """
    trials: list[Trial] = []
    kept: list[Difference] = []
    best = found.trace
    ranked = [d for d in found.differences if d.counts]
    for group in _groups(suspects(ranked, found.trace)):
        told = f"{group[0].layer} {group[0].name}"
        if reason := _untriable(a, group[0]):
            trials.append(Trial(suspect=told, result="not tried", words=reason))
        else:
            with tempfile.TemporaryDirectory(prefix="saigen-confirm-") as scratch:
                made = _make(a, b, [*kept, *group], root, Path(scratch))
                trial, best, keep = _judge(a, b, made, told, best)
            trials.append(trial)
            kept += group if keep else []
        say(str(trials[-1]))
        if trials[-1].result == "confirmed":
            break
    return trials


def _judge(
    a: Run, b: Run, made: Run | str, told: str, best: Divergence
) -> tuple[Trial, Divergence, bool]:
    if isinstance(made, str):
        return Trial(suspect=told, result="not tried", words=made), best, False
    if made.outcome["digest"] == a.outcome["digest"]:
        words = "with the value of A, B comes out as A does, bit for bit"
        return Trial(suspect=told, result="confirmed", words=words), best, True
    if made.outcome["digest"] == b.outcome["digest"]:
        words = "with the value of A, B comes out as before"
        return Trial(suspect=told, result="refuted", words=words), best, False
    now = divergence(a, made)
    if _when(now) > _when(best):
        words = f"with the value of A, {now.words}"
        return Trial(suspect=told, result="a part of it", words=words), now, True
    words = f"it moves bits, but brings B no nearer to A ({now.words})"
    return Trial(suspect=told, result="refuted", words=words), best, False


def _when(parted: Divergence) -> tuple[int, int]:
    """How late two runs part."""
    if parted.place not in IN_TIME:
        return 0, 0  # in the initial weights, or nobody knows where
    place = IN_TIME.index(parted.place)
    return (1 << 60 if parted.step is None else parted.step + 1), place


def _groups(ranked: Sequence[Difference]) -> Iterator[list[Difference]]:
    """Suspects that only make sense together: another `_target_` brings other arguments, and one
    file is one change.
    """
    done: set[int] = set()
    for suspect in ranked:
        if id(suspect) in done:
            continue
        head = _head(suspect, ranked)
        group = [d for d in ranked if id(d) not in done and _head(d, ranked) == head]
        done |= {id(d) for d in group}
        yield group


def _head(suspect: Difference, ranked: Sequence[Difference]) -> tuple[str, str]:
    if suspect.layer == "config":
        for other in ranked:
            group, _, last = other.name.rpartition(".")
            if other.layer == "config" and last == "_target_" and suspect.name.startswith(group):
                return "config", group
    if suspect.layer == "data":
        return "data", ""
    return suspect.layer, suspect.name.partition(":")[0]


def _untriable(a: Run, suspect: Difference) -> str | None:
    if suspect.layer == "code":
        path = suspect.name.partition(":")[0]
        digest = a.layer("code")["files"].get(path)
        return "A's source was not kept" if digest and a.content(digest, path) is None else None
    if suspect.layer == "data":
        path, digest = a.config["data"]["snapshot"], a.layer("data")["snapshot"]["sha256"]
        return "A's snapshot was not kept" if a.content(digest, path) is None else None
    if suspect.layer == "environment":
        switch = suspect.name.removeprefix("switches.")
        if suspect.name.startswith("variables.") or switch in a.config["agreement"]:
            return None
        return "it needs another machine, or another set of packages"
    return None


def _make(a: Run, b: Run, changes: list[Difference], root: Path, scratch: Path) -> Run | str:
    """Train B's source, data and config with A's values for some differences."""
    place = Workplace(root.resolve(), scratch / "project")
    lay_source(b, place.root)
    values = b.full_config()
    environment: dict[str, str] = {}
    lay_snapshot(a if any(change.layer == "data" for change in changes) else b, place.root)
    for change in changes:
        _apply(a, change, place.root, values, environment)
    log = scratch / "log"
    code = train_there(place, values, {}, environment=environment, log=log)
    folder = place.run_folder()
    if code or folder is None:
        return "the training did not end: " + " ".join(log.read_text().split())[-300:]
    shutil.copytree(folder, scratch / "made", dirs_exist_ok=True)
    return Run(folder=scratch / "made", record=read_record(folder), root=place.root)


def _apply(
    a: Run, change: Difference, project: Path, values: dict[str, Any], environment: dict[str, str]
) -> None:
    if change.layer == "config":
        _set(values, change.name, change.a)
    elif change.layer == "randomness" and change.name == "python_hash_seed":
        _set(values, "agreement.python_hash_seed", change.a)
    elif change.layer == "randomness":
        _set(values, change.name.replace("seeds.", "randomness.streams."), change.a)
    elif change.layer == "distribution":
        _set(values, {"processes": "hardware.processes"}.get(change.name, change.name), change.a)
    elif change.layer == "code":
        name = change.name.partition(":")[0]
        digest = a.layer("code")["files"].get(name)
        if digest is None:
            (project / name).unlink()
        else:
            write_kept(project / name, a.content(digest, name), name)
    elif change.layer == "environment" and change.name.startswith("variables."):
        environment[change.name.removeprefix("variables.")] = str(change.a)
    elif change.layer == "environment":
        _set(values, f"agreement.{change.name.removeprefix('switches.')}", change.a)


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    section = values
    for part in path:
        section = section.setdefault(part, {})
    if value == ABSENT:
        section.pop(last, None)
    else:
        section[last] = value
