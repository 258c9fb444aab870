"""Kept contents: what the digests of a record stand for, so that a difference can be named.

`runs/.kept/<sha256>` holds each version of the source and of the data once, however many runs
share it. A digest says that something differs; only the two contents say what.
"""

from collections.abc import Mapping
from pathlib import Path

from saigen.digest import digest_bytes
from saigen.documents import regular
from saigen.files import write_whole
from saigen.secret_scan import named_like_a_key, scan_bytes

FOLDER = ".kept"
KEPT_BYTES = 64 << 20  # a larger file is left to DVC; its digest is in the record


def keep(runs: Path, root: Path, digests: Mapping[str, str]) -> None:
    """Keep files below `root` whose digests are known, those not kept before.

    A file that is not what its digest says any more is left out: the name must not lie. So is what
    holds a secret or is named like a key, and of the source a link out of the project.
    """
    for name, digest in digests.items():
        path, copy = root / name, runs / FOLDER / digest
        if not path.is_file() or path.stat().st_size > KEPT_BYTES:
            continue
        if copy.is_file() and copy.stat().st_size == path.stat().st_size:
            continue
        content = path.read_bytes()
        if digest_bytes(content) == digest and not _private(root, name, content):
            write_whole(copy, content, mode=path.stat().st_mode & 0o777)


def _private(root: Path, name: str, content: bytes) -> bool:
    if named_like_a_key(name):
        return True
    inside = (root / name).resolve().is_relative_to(root.resolve())
    return name.endswith(".py") and (not inside or bool(scan_bytes(content)))


def kept(runs: Path, digest: str) -> bytes | None:
    """The content with this digest; None if it was not kept or was altered since."""
    path = regular(runs, f"{FOLDER}/{digest}")
    content = path.read_bytes() if path else None
    return content if content is not None and digest_bytes(content) == digest else None
