"""The audit: is every byte of ledger, records and run files still the one that was written?"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.digest import digest_file, digest_tree, digest_value
from saigen.records import ledger
from saigen.records.document import Document
from saigen.records.kept import FOLDER
from saigen.records.record import NAME, outcome_digest, read_record
from saigen.records.runs import RESULTS
from saigen.refusal import Refusal


class Finding(Document):
    """One thing that is not as it was written."""

    where: str = Field(description="file, and line or key where it can be told")
    what: str


class Audit(Document):
    """What an audit found."""

    schema_: Literal["saigen-audit-1"] = Field(
        default="saigen-audit-1", serialization_alias="schema"
    )
    verdict: Literal["intact", "altered"]
    lines: int = Field(description="of the ledger")
    runs: int = Field(description="whose record was compared with the ledger")
    files: int = Field(description="that were compared with their record")
    findings: list[Finding] = Field(description="what was altered, or is missing")
    notes: list[str] = Field(description="what could not be checked, and why")


def audit(runs: Path) -> Audit:
    """Check the ledger's chain, every record against it, and every file against its record; and
    the published run against the ledger or, where it was made elsewhere, against git.
    """
    path = runs / ledger.NAME
    lines, altered = ledger.examine(path.read_bytes() if path.is_file() else b"")
    findings = [
        Finding(where=f"{path}:{number}", what="the line is not the one that was written")
        for number in altered
    ]
    newest = {line.get("run"): line for line in lines}
    notes = [f"{run}: in the ledger, its folder is not here" for run in newest
             if not (runs / str(run)).is_dir()]  # fmt: skip
    counted = 0
    folders = sorted(file.parent for file in runs.glob(f"*/{NAME}"))
    for folder in folders:
        line = newest.get(folder.name)
        for found in _run(folder, line):
            findings += [found] if isinstance(found, Finding) else []
            notes += [found] if isinstance(found, str) else []
        counted += len(_listed(folder))
    published = runs.parent / RESULTS
    if (published / NAME).is_file():
        for found in _published(published, {line.get("record") for line in lines}):
            findings += [found] if isinstance(found, Finding) else []
            notes += [found] if isinstance(found, str) else []
        folders.append(published)
        counted += len(_listed(published))
    for path in sorted((runs / FOLDER).glob("*")):
        counted += 1
        if digest_file(path) != path.name:
            findings.append(Finding(where=str(path), what="not the bytes that its name says"))
    return Audit(
        verdict="altered" if findings else "intact",
        lines=len(lines),
        runs=len(folders),
        files=counted,
        findings=findings,
        notes=notes,
    )


def _run(folder: Path, line: dict[str, Any] | None) -> Iterator[Finding | str]:
    file = folder / NAME
    try:
        record = read_record(folder)
    except Refusal as refusal:
        yield Finding(where=str(file), what=f"the record cannot be read: {refusal.got}")
        return
    if line is None:
        if record["complete"]:
            yield Finding(where=str(file), what="complete, and the ledger has no line for it")
        else:
            yield f"{folder.name}: not complete, so nothing vouches for it yet"
        return
    if "record" not in line:
        yield f"{folder.name}: entered before the ledger held digests of records"
    elif digest_file(file) != line["record"]:
        where = ", ".join(_inner(record, line)) or "outside recipe and outcome"
        yield Finding(where=str(file), what=f"the record is not the one that was entered ({where})")
    yield from _files(folder, record)


def _published(folder: Path, entered: set[Any]) -> Iterator[Finding | str]:
    """The published run. Its files come from the DVC remote, where model/ is a folder of its own
    and the checkpoints are not.
    """
    file = folder / NAME
    try:
        record = read_record(folder)
    except Refusal as refusal:
        yield Finding(where=str(file), what=f"the record cannot be read: {refusal.got}")
        return
    if digest_file(file) not in entered and not _committed(file):
        yield Finding(
            where=str(file), what="neither the ledger nor the last commit has this record"
        )
    for name, expected in record["files"].items():
        path = folder / name
        if path.is_file() and digest_file(path) != expected:
            yield Finding(where=str(path), what="not the bytes that were written")
        elif name == "trace.bin" and not path.is_file():
            yield f"{path}: not here; `dvc pull` brings it"


def _committed(file: Path) -> bool:
    """Whether a file is, byte for byte, what the last commit has in its place."""
    command = ("git", "show", f"HEAD:./{file.name}")
    try:
        shown = subprocess.run(
            command, cwd=file.parent, capture_output=True, check=True, stdin=subprocess.DEVNULL
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return shown == file.read_bytes()


def _inner(record: dict[str, Any], line: dict[str, Any]) -> Iterator[str]:
    """Which of the digests inside a record do not fit what they are of."""
    layers = record["recipe"]["layers"]
    for name, entry in layers.items():
        content = {key: value for key, value in entry.items() if key != "digest"}
        if digest_value(content) != entry["digest"]:
            yield f"recipe.layers.{name}"
    digest = digest_tree({name: entry["digest"] for name, entry in layers.items()})
    if record["recipe"]["digest"] not in (digest, line["recipe"]):
        yield "recipe.digest"
    if outcome_digest(record["outcome"]) != line["outcome"]:
        yield "outcome"
    if not record["complete"]:
        yield f"not complete: `saigen evaluate {record['run']}` completes it"


def _files(folder: Path, record: dict[str, Any]) -> Iterator[Finding | str]:
    for name, expected in record["files"].items():
        path = folder / name
        if not path.is_file():
            yield Finding(where=str(path), what="missing")
        elif digest_file(path) != expected:
            yield Finding(where=str(path), what="not the bytes that were written")


def _listed(folder: Path) -> dict[str, Any]:
    try:
        listed: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return listed


def audit_text(found: Audit) -> str:
    """An audit, for a person."""
    rows = [f"ALTERED  {finding.where}: {finding.what}" for finding in found.findings]
    rows += [f"note     {note}" for note in found.notes]
    checked = f"{found.lines} ledger lines, {found.runs} records, {found.files} files"
    return "\n".join([*rows, f"{found.verdict}: {checked}"])
