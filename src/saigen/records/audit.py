"""The audit: is every byte of ledger, records and run files still the one that was written?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.digest import digest_bytes, digest_file, digest_tree, digest_value
from saigen.recipe.code import git
from saigen.records import ledger
from saigen.records.kept import FOLDER
from saigen.records.record import NAME, Document, outcome_digest, read_record
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
    told: list[Finding | str] = [
        Finding(where=f"{path}:{number}", what="the line is not the one that was written")
        for number in altered
    ]
    newest = {str(line.get("run")): line for line in lines}
    told += [f"{run}: in the ledger, its folder is not here" for run in newest
             if not (runs / run).is_dir()]  # fmt: skip
    folders = sorted(file.parent for file in runs.glob(f"*/{NAME}"))
    published = runs.parent / RESULTS
    folders += [published] * (published / NAME).is_file()
    files = 0
    for folder in folders:
        try:
            record = read_record(folder)
        except Refusal as refusal:
            what = f"the record cannot be read: {refusal.got}"
            told.append(Finding(where=str(folder / NAME), what=what))
            continue
        if folder == published:
            told += _published(folder, {line.get("record") for line in lines})
        else:
            told += _entered(folder, record, newest.get(folder.name))
        told += _files(folder, record, elsewhere=folder == published)
        files += len(record["files"])
    kept = sorted((runs / FOLDER).glob("*"))
    told += [Finding(where=str(copy), what="not the bytes that its name says")
             for copy in kept if digest_file(copy) != copy.name]  # fmt: skip
    findings = [one for one in told if isinstance(one, Finding)]
    return Audit(
        verdict="altered" if findings else "intact",
        lines=len(lines),
        runs=len(folders),
        files=files + len(kept),
        findings=findings,
        notes=[one for one in told if isinstance(one, str)],
    )


def _entered(
    folder: Path, record: dict[str, Any], line: dict[str, Any] | None
) -> Iterator[Finding | str]:
    """A record against the newest line of the ledger that is about it."""
    file = folder / NAME
    if line is None and record["complete"]:
        yield Finding(where=str(file), what="complete, and the ledger has no line for it")
    elif line is None:
        yield f"{folder.name}: not complete, so nothing vouches for it yet"
    elif "record" not in line:
        yield f"{folder.name}: entered before the ledger held digests of records"
    elif digest_file(file) != line["record"]:
        where = ", ".join(_inner(record, line)) or "outside recipe and outcome"
        yield Finding(where=str(file), what=f"the record is not the one that was entered ({where})")


def _published(folder: Path, entered: set[Any]) -> Iterator[Finding]:
    """The published record against the ledger or, byte for byte, the last commit."""
    found, committed = digest_file(folder / NAME), git(folder, "show", f"HEAD:./{NAME}").stdout
    if found not in entered and found != digest_bytes(committed):
        what = "neither the ledger nor the last commit has this record"
        yield Finding(where=str(folder / NAME), what=what)


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


def _files(folder: Path, record: dict[str, Any], *, elsewhere: bool) -> Iterator[Finding | str]:
    """The files that a record lists. `elsewhere`: they come from the DVC remote, where model/ is a
    folder of its own and the checkpoints are not.
    """
    for name, expected in record["files"].items():
        path = folder / name
        if path.is_file():
            if digest_file(path) != expected:
                yield Finding(where=str(path), what="not the bytes that were written")
        elif not elsewhere:
            yield Finding(where=str(path), what="missing")
        elif name == "trace.bin":
            yield f"{path}: not here; `dvc pull` brings it"


def audit_text(found: Audit) -> str:
    """An audit, for a person."""
    rows = [f"ALTERED  {finding.where}: {finding.what}" for finding in found.findings]
    rows += [f"note     {note}" for note in found.notes]
    checked = f"{found.lines} ledger lines, {found.runs} records, {found.files} files"
    return "\n".join([*rows, f"{found.verdict}: {checked}"])
