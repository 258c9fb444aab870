"""Run folders: claimed by one process at a time, found again by id, prefix, `last` or path."""

import fcntl
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


@contextmanager
def claim(recipe_digest: str, runs: Path = RUNS) -> Iterator[Path]:
    """Give this process the folder of the run to make: one that was interrupted, or a new one.

    The folder is locked (fcntl(2)) as long as the context lasts, so that two starts of the same
    recipe never share one. The lock falls with the process that holds it, also when loader
    workers that were forked from it live on for a moment.
    """
    runs.mkdir(parents=True, exist_ok=True)
    stem = recipe_digest[:_ID_DIGITS]
    for number in range(1, 1 << 30):
        folder = runs / f"{stem}-{number}"
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(lock)
            continue
        try:
            if not is_complete(folder):
                yield folder
                return
        finally:
            os.close(lock)
    raise AssertionError("unreachable: numbers do not end")


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


def is_complete(folder: Path) -> bool:
    """Whether the run ended, so that there is nothing to continue."""
    try:
        record = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(record.get("complete"))


def all_runs(runs: Path = RUNS) -> list[Path]:
    """Every run folder that has a record, the oldest start first."""
    folders = [path.parent for path in runs.glob(f"*/{NAME}")]
    return sorted(folders, key=lambda folder: (_started(folder), folder.name))


def find(reference: str, runs: Path = RUNS) -> Path:
    """The folder of a RUN: an id, a prefix of one, `last`, `last~1`, or a path.

    A clone in which nothing was trained knows the run that was published to it. Raises
    Refusal if nothing fits or more than one run does.
    """
    path = Path(reference)
    if path.is_file() or (path / NAME).is_file():
        return path.parent if path.is_file() else path
    published = runs.parent / RESULTS
    known = all_runs(runs) or [published] * (published / NAME).is_file()
    if match := _LAST.fullmatch(reference):
        back = int(match[1] or 0)
        fitting = [known[-1 - back]] if back < len(known) else []
    else:
        fitting = [folder for folder in known if _id(folder) == reference]
        fitting = fitting or [folder for folder in known if _id(folder).startswith(reference)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(folder.name for folder in fitting[:4])
    raise Refusal(
        "no run has this name" if not fitting else "more than one run has this name",
        where=f"{runs}/",
        expected="an id, the beginning of one, last, last~1, or a path",
        got=f"{reference}" + (f", which fits {names}" if fitting else ""),
        fix="`saigen runs` lists them" if known else "`make train` makes the first one",
    )


def _id(folder: Path) -> str:
    """The id of a run: the name of its folder, which only the published one has in its record."""
    if folder.name != RESULTS.name:
        return folder.name
    return str(json.loads((folder / NAME).read_text(encoding="utf-8"))["run"])


def _started(folder: Path) -> str:
    try:
        record: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return str(record["circumstances"]["started_at"])
    except (OSError, ValueError, KeyError):
        return ""
