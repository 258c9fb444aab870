"""Run folders: claimed by one process at a time, found again by id, prefix, `last` or path."""

import fcntl
import itertools
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.records.record import NAME
from saigen.refusal import Refusal

RUNS = Path("runs")
RESULTS = Path("results")  # the folder of the run that was published, without its model
_ID_DIGITS = 12
_LAST = re.compile(r"last(?:~(\d+))?")


def numbered(recipe_digest: str, runs: Path) -> Iterator[Path]:
    """The folders that runs of a recipe may have, in turn."""
    stem = recipe_digest[:_ID_DIGITS]
    return (runs / f"{stem}-{number}" for number in itertools.count(1))


@contextmanager
def claim(recipe_digest: str, runs: Path = RUNS) -> Iterator[Path]:
    """Give this process the folder of the run to make: one that was interrupted, or a new one.

    The folder is locked (fcntl(2)) as long as the context lasts, so that two starts of the same
    recipe never share one. The lock falls with the process that holds it, also when loader
    workers that were forked from it live on for a moment.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for folder in numbered(recipe_digest, runs):
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _locked(lock) and not _record(folder).get("complete"):
                yield folder
                return
        finally:
            os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_claimed(folder: Path) -> bool:
    """Whether some process is making this run. Asks without locking (F_GETLK, fcntl(2)): a lock
    taken to ask would keep a start away from the folder.
    """
    try:
        with (folder / ".lock").open("rb") as lock:
            question = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
            answer: bytes = fcntl.fcntl(lock, fcntl.F_GETLK, question)
    except OSError:
        return False
    return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)


def all_runs(runs: Path = RUNS) -> list[Path]:
    """Every run folder that has a record, the oldest start first."""
    started = {
        path.parent: str(_record(path.parent).get("circumstances", {}).get("started_at", ""))
        for path in runs.glob(f"*/{NAME}")
    }
    return sorted(started, key=lambda folder: (started[folder], folder.name))


def find(reference: str, runs: Path = RUNS) -> Path:
    """The folder of a RUN: an id, a prefix of one, `last`, `last~1`, or a path.

    A clone in which nothing was trained knows the run that was published to it. Raises
    Refusal if nothing fits or more than one run does.
    """
    path = Path(reference)
    if path.is_file() or (path / NAME).is_file():
        return path.parent if path.is_file() else path
    published = runs.parent / RESULTS
    known = {folder.name: folder for folder in all_runs(runs)}
    if not known and (published / NAME).is_file():
        known = {str(_record(published).get("run")): published}
    if match := _LAST.fullmatch(reference):
        fitting = list(known)[::-1][int(match[1] or 0) :][:1]
    else:
        fitting = [reference] if reference in known else []
        fitting = fitting or [name for name in known if name.startswith(reference)]
    if len(fitting) == 1:
        return known[fitting[0]]
    raise Refusal(
        "no run has this name" if not fitting else "more than one run has this name",
        where=f"{runs}/",
        expected="an id, the beginning of one, last, last~1, or a path",
        got=reference + (f", which fits {', '.join(fitting[:4])}" if fitting else ""),
        fix="`saigen runs` lists them" if known else "`make train` makes the first one",
    )


def _record(folder: Path) -> dict[str, Any]:
    """What a record says, unchecked; nothing where there is none."""
    try:
        record: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record
