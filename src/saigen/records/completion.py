"""The last write of a run: every file's digest into the record, the record's into the ledger."""

from pathlib import Path
from typing import Any

from saigen.digest import digest_bytes, digest_file
from saigen.files import json_bytes, write_whole
from saigen.records import ledger
from saigen.records.record import NAME, Record

_UNLISTED = {NAME, ".lock"}


def complete(folder: Path, record: dict[str, Any], event: str = "finished") -> ledger.Standing:
    """Close a run, or enter what was proven of it since.

    The ledger line with the digest of the coming record is written first and the record, with
    its completion mark, last: whoever finds the mark finds the line.
    """
    record["files"] = files_of(folder)
    record["complete"] = True
    Record.model_validate(record)
    content = json_bytes(record)
    standing = ledger.append(folder.parent, record, digest_bytes(content), event)
    write_whole(folder / NAME, content)
    return standing


def files_of(folder: Path) -> dict[str, str]:
    """The digest of each file below a run folder, by path; the record itself is left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {str(path.relative_to(folder)): path for path in files}
    return {
        name: digest_file(path)
        for name, path in names.items()
        if name not in _UNLISTED and not any(part.startswith(".") for part in Path(name).parts)
    }
