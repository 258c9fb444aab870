"""The digest of a large file that has not changed since it was hashed last.

A change of content moves a file's ctime, which no program can set back. What changed a moment
before it was hashed may change again within one tick of the file system's clock: not kept.
"""

import contextlib
import time
from pathlib import Path

from saigen.digest import digest_bytes, digest_file
from saigen.documents import DOCUMENT_BYTES, parse_json, read_bytes
from saigen.files import write_json

CACHE = Path(".saigen/cache/digests")
LARGE_BYTES = 8 << 20  # below it hashing costs less than looking it up is worth
_SETTLED_SECONDS = 2


def digest_unless_seen(path: Path, root: Path) -> str:
    """SHA-256 of a file's content, without reading a large one that was hashed before."""
    if path.stat().st_size < LARGE_BYTES:
        return digest_file(path)
    mark = _mark(path)
    kept = root / CACHE / f"{digest_bytes(str(path.resolve()).encode())[:16]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        seen = parse_json(read_bytes(kept, DOCUMENT_BYTES))
        if seen["mark"] == mark:
            return str(seen["sha256"])
    found = digest_file(path)
    settled = abs(time.time() - path.stat().st_ctime) > _SETTLED_SECONDS
    if settled and _mark(path) == mark:
        with contextlib.suppress(OSError):  # what cannot be kept is hashed again
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {"mark": mark, "sha256": found})
    return found


def _mark(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
