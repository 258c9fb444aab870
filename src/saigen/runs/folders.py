"""Run folders: claimed by one process at a time, found again by id, prefix, `last` or path."""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from saigen.documents import DOCUMENT_BYTES, parse_json, read_bytes
from saigen.errors import Refusal
from saigen.files import is_locked, locked
from saigen.runs.record import NAME, read_record

RUNS = Path("runs")
_STARTS = ".starts"  # below it: the names of the runs that were started here, in turn
VERIFICATION, BADGE = "verify.json", "verify.svg"  # beside the record in RESULTS
RUNS_VARIABLE = "SAIGEN_WATCHED_RUNS"  # where `saigen rerun` wants a watched run
RESULTS = Path("results")  # the folder of the run that was published, without its model
LOCK = ".lock"  # of a run folder; that of runs/ itself is held for the ledger and results/
_ID_DIGITS = 12
_LAST = re.compile(r"last(?:~(\d+))?")


def numbered(recipe_digest: str, runs: Path) -> Iterator[Path]:
    """The folders that runs of a recipe may have, in turn."""
    stem = recipe_digest[:_ID_DIGITS]
    return (runs / f"{stem}-{number}" for number in itertools.count(1))


@contextmanager
def claim(
    recipe_digest: str, runs: Path = RUNS, say: Callable[[str], None] = print
) -> Iterator[Path]:
    """Give this process the folder of the run to make: one that was interrupted, or a new one.

    The folder is locked as long as the context lasts, so that two starts of the same recipe never
    share one. A folder whose record cannot be read is left as it is.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for folder in numbered(recipe_digest, runs):
        folder.mkdir(exist_ok=True)
        with locked(folder / LOCK, wait=False) as free:
            if not free:
                continue
            try:
                taken = (folder / NAME).exists() and read_record(folder)["complete"]
            except Refusal as refusal:
                say(f"{folder / NAME} cannot be read ({refusal.got}); taking the next number")
                continue
            if not taken:
                if not (folder / NAME).exists():
                    note_start(folder)
                yield folder
                return


def is_claimed(folder: Path) -> bool:
    """Whether some process is making this run."""
    return is_locked(folder / LOCK)


def all_runs(runs: Path = RUNS) -> list[Path]:
    """Every run folder that has a record, the oldest start first; one that cannot be read counts
    as the oldest. Runs that were started here stand in that order, whatever the clock said.
    """
    started = {path.parent: _started_at(path.parent) for path in runs.glob(f"*/{NAME}")}
    found = sorted(started, key=lambda folder: (started[folder], folder.name))
    path = runs / _STARTS
    if not path.is_file():
        return found
    names = path.read_text(encoding="utf-8", errors="replace").splitlines()
    order = {name: number for number, name in enumerate(names)}
    here = {folder for folder in found if folder.name in order and started[folder]}
    turn = iter(sorted(here, key=lambda folder: order[folder.name]))
    return [next(turn) if folder in here else folder for folder in found]


def note_start(folder: Path) -> None:
    """Note that a run begins to be, as the newest: a clock may be set back."""
    path = folder.parent / _STARTS
    if path.is_file() or not os.path.lexists(path):  # it orders runs, and is not worth a refusal
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{folder.name}\n")


def readable(runs: Path = RUNS) -> list[tuple[Path, dict[str, Any]]]:
    """Every run folder whose record can be read, with the record, the oldest start first."""
    found: list[tuple[Path, dict[str, Any]]] = []
    for folder in all_runs(runs):
        with suppress(Refusal):
            found.append((folder, read_record(folder)))
    return found


def find(reference: str, runs: Path = RUNS, say: Callable[[str], None] | None = None) -> Path:
    """The folder of a RUN: an id, the beginning of a recipe (its newest run) with or without the
    run's number, `last`, `last~1`, or a path.

    A clone in which nothing was trained knows the run that was published to it. `say` is told
    where one of several runs of a recipe was taken. Raises Refusal if nothing fits, or runs of more
    than one recipe do.
    """
    path = Path(reference)
    if path.is_file() or (path / NAME).is_file():
        return path.parent if path.is_file() else path
    published = runs.parent / RESULTS
    known = {folder.name: folder for folder in all_runs(runs)}
    if not known and (published / NAME).is_file():
        with suppress(Refusal):
            known = {str(read_record(published)["run"]): published}
    if match := _LAST.fullmatch(reference):
        fitting = list(known)[::-1][int(match[1] or 0) :][:1]
    else:
        fitting = _fitting(reference, list(known))
    if len({name.rpartition("-")[0] for name in fitting}) == 1:
        if len(fitting) > 1 and say:
            say(f"{reference}: {fitting[-1]}, the newest of {len(fitting)} runs of this recipe")
        return known[fitting[-1]]
    raise Refusal(
        "no run has this name" if not fitting else "more than one run has this name",
        where=f"{runs}/",
        expected="an id, the beginning of one recipe, last, last~1, or a path",
        got=(reference or "nothing") + (f", which fits {', '.join(fitting)}" if fitting else ""),
        fix="`saigen runs` lists them" if known else "`make train` makes the first one",
    )


def _fitting(reference: str, known: list[str]) -> list[str]:
    """The runs that a name may stand for, the newest last; `28836b-2` is run 2 of a recipe."""
    if reference in known:
        return [reference]
    stem, dash, number = reference.rpartition("-")
    beginning, end = (stem, dash + number) if dash else (reference, "")
    fits = [name for name in known if beginning and name.startswith(beginning)]
    return [name for name in fits if f"-{name.rpartition('-')[2]}".endswith(end)]


def _started_at(folder: Path) -> str:
    """When a run says that it was started, unchecked; empty where that cannot be read."""
    try:
        return str(parse_json(read_bytes(folder / NAME, DOCUMENT_BYTES))["metadata"]["started_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
