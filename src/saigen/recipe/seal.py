"""Whether the files inside the installed distributions are still those that were installed.

Hashing a gigabyte at every start is out of the question, so the first look hashes every file
against its distribution's RECORD (PEP 376) and seals what it saw: size and times of each file.
Later looks only ask for sizes and times (8,000 files) and hash what changed. A change of
content moves a file's ctime, which no program can set back. Headers, stubs and a library's own
tests are left out: nothing here loads them.

In the image the content is held by the image's digest, so that only sizes are compared there.
"""

import base64
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

Stat = tuple[int, int, int]  # bytes, mtime in ns, ctime in ns; (-1, 0, 0) when there is no file


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


@dataclass(frozen=True)
class Sealed:
    """What a full look found: `files` by path in site-packages, `records` by distribution."""

    installation: str  # the stamp of the installation that was looked at
    files: dict[str, Stat]
    records: dict[str, str]  # digest of the paths and hashes that RECORD lists

    def text(self) -> str:
        """As the seal stands in a file."""
        return json.dumps([self.installation, self.files, self.records])

    @classmethod
    def read(cls, path: Path) -> "Sealed | None":
        """The seal in a file; None when there is none, or none that can be read."""
        try:
            installation, files, records = json.loads(path.read_text(encoding="utf-8"))
            return cls(installation, {name: (*stat,) for name, stat in files.items()}, records)
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def changed_files(packages: Path, prefix: Path) -> list[Replaced]:
    """Each file, or distribution, that is no longer what was installed.

    `packages` is site-packages, `prefix` the environment that keeps the seal. Takes seconds the
    first time after an installation and some 50 ms afterwards.
    """
    seal, stamp = prefix / NAME, _stamp(prefix)
    before = Sealed.read(seal)
    if before is None or before.installation != stamp:
        before = None
    elif not (moved := _moved(packages, before)):
        return []
    records = {path.parent.name: path for path in packages.glob("*.dist-info/RECORD")}
    digests = {name: _record_digest(path) for name, path in records.items()}
    found: list[Replaced] = []
    files: dict[str, Stat] = {}
    for name, path in records.items():
        if before is not None and before.records.get(name, digests[name]) != digests[name]:
            found.append(_replaced(packages, path, f"{name}/RECORD"))
        for file, expected, _ in _listed(path):
            files[file] = _stat(packages / file)
            if (before is None or file in moved) and not _holds(packages / file, expected):
                found.append(_replaced(packages, path, file))
        files[f"{name}/RECORD"] = _stat(path)
    if not found:
        _keep(seal, Sealed(stamp, files, digests))
    return found


def wrong_sizes(packages: Path) -> list[Replaced]:
    """Each file whose size is not the one in RECORD: the look inside the image."""
    return [
        _replaced(packages, record, file)
        for record in packages.glob("*.dist-info/RECORD")
        for file, _, size in _listed(record)
        if _stat(packages / file)[0] != size
    ]


def _stamp(prefix: Path) -> str:
    """The mark of the installation: when `docker/install.sh` finished, and from what."""
    mark = prefix / ".complete"
    return f"{mark.read_text(encoding='utf-8')} {mark.stat().st_mtime_ns}" if mark.is_file() else ""


def _moved(packages: Path, seal: Sealed) -> set[str]:
    root = f"{packages}/"
    return {name for name, stat in seal.files.items() if _stat(root + name) != stat}


def _stat(path: str | Path) -> Stat:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path a file would double the time of a start
    except OSError:
        return (-1, 0, 0)
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns)


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


def _record_digest(record: Path) -> str:
    """Digest of what RECORD lists, in any order; who installed it and how is left out."""
    return digest_value(sorted(_listed(record)))


def _holds(path: Path, expected: str) -> bool:
    """Whether a file has the hash that RECORD gives it (`sha256=` and unpadded base64)."""
    algorithm, _, text = expected.partition("=")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == text


def _keep(path: Path, seal: Sealed) -> None:
    try:
        write_whole(path, seal.text().encode())
    except OSError:
        return  # an environment that cannot be written is looked at in full each time
