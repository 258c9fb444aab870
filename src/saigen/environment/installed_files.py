"""Whether the files inside the installed distributions are still those that were installed.

Hashing a gigabyte at every start is out of the question, so the first look hashes every file
against its distribution's RECORD (PEP 376) and seals what it saw: size and times of each file.
Later looks only ask for sizes and times (8,000 files) and hash what changed. A change of
content moves a file's ctime, which no program can set back. Headers, stubs and a library's own
tests are left out: nothing here loads them.

The image's files are looked at like any others. Its own folders may be read-only, so the seal of an
image lies in the home of whoever runs it, and is the seal of that image alone.
"""

import base64
import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saigen.digest import digest_file, digest_value
from saigen.files import write_whole

NAME = ".sealed"
_SKIPPED = ("/tests/", "/test/", "__pycache__/", "/include/")

Stat = list[int]  # bytes, mtime in ns, ctime in ns; [-1, 0, 0] when there is no file


@dataclass(frozen=True)
class Replaced:
    """A file that is not the one that was installed; its RECORD: the distribution is not."""

    distribution: str  # "torch 2.13.0"
    path: str  # in site-packages
    sha256: str  # of what is there now; empty: nothing

    def __str__(self) -> str:
        if self.path.endswith(".dist-info/RECORD"):
            return f"{self.distribution}: another build of the same version"
        what = "is not the file that was installed" if self.sha256 else "is gone"
        return f"{self.distribution}: {self.path} {what}"


def changed_files(packages: Path, prefix: Path, seals: Path | None = None) -> list[Replaced]:
    """Each file, or distribution, that is no longer what was installed.

    `packages` is site-packages, `prefix` the environment, `seals` the folder that keeps its seal
    where it cannot. Takes seconds the first time after an installation, some 50 ms afterwards.
    """
    stamp, seals = _stamp(prefix), seals or prefix
    stats, sealed = _read(seals / NAME, stamp)
    moved = {name for name, stat in stats.items() if _stat(f"{packages}/{name}") != stat}
    if stats and not moved:
        return []
    found: list[Replaced] = []
    files: dict[str, Stat] = {}
    records: dict[str, str] = {}
    for record in packages.glob("*.dist-info/RECORD"):
        name = f"{record.parent.name}/RECORD"
        listed = sorted(_listed(record))
        # of paths and hashes, in any order; who installed it and how is left out
        records[name] = digest_value(listed)
        wrong = [name] if sealed.get(name, records[name]) != records[name] else []
        wrong += [
            file
            for file, expected, _ in listed
            if (not stats or file in moved) and not _holds(packages / file, expected)
        ]
        found += [_replaced(packages, record, file) for file in wrong]
        files |= {file: _stat(f"{packages}/{file}") for file in (name, *(f for f, _, _ in listed))}
    if not found:
        with contextlib.suppress(OSError):  # what cannot be written is looked at in full each time
            write_whole(seals / NAME, json.dumps([stamp, files, records]).encode())
    return found


def _read(seal: Path, stamp: str) -> tuple[dict[str, Stat], dict[str, str]]:
    """What the seal of this installation holds: files and the digests of RECORDs, by path."""
    try:
        installation, stats, records = json.loads(seal.read_text(encoding="utf-8"))
        return (dict(stats), dict(records)) if installation == stamp else ({}, {})
    except (OSError, ValueError, TypeError):
        return {}, {}


def _stamp(prefix: Path) -> str:
    """The mark of the installation: when it was finished, from what, and in which image."""
    mark, image = prefix / ".complete", os.environ.get("SAIGEN_IMAGE_ID", "")
    if not mark.is_file():
        return image
    return f"{image} {mark.read_text(encoding='utf-8')} {mark.stat().st_mtime_ns}"


def _stat(path: str) -> Stat:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path a file would double the time of a start
    except OSError:
        return [-1, 0, 0]
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _replaced(packages: Path, record: Path, file: str) -> Replaced:
    title = record.parent.name.removesuffix(".dist-info").replace("-", " ")
    path = packages / file
    return Replaced(title, file, digest_file(path) if path.is_file() else "")


def _listed(record: Path) -> Iterator[tuple[str, str, int]]:
    """Path, hash and size of each file of a distribution that a program could load."""
    with record.open(encoding="utf-8", newline="") as file:
        for path, expected, size in csv.reader(file):
            loaded = path.endswith((".py", ".so", ".pth")) or ".so." in path
            if loaded and expected and not any(part in path for part in _SKIPPED):
                yield path, expected, int(size)


def _holds(path: Path, expected: str) -> bool:
    """Whether a file has the hash that RECORD gives it (`sha256=` and unpadded base64)."""
    algorithm, _, text = expected.partition("=")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == text
