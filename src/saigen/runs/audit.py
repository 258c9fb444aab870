"""The audit: is every byte of ledger, records and run files still the one that was written?"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen import git_dvc
from saigen.digest import digest_bytes, digest_file, digest_tree, digest_value
from saigen.documents import Document
from saigen.errors import Refusal
from saigen.files import is_regular, json_bytes, locked
from saigen.printing import one_line
from saigen.runs import ledger
from saigen.runs.folders import LOCK, RESULTS, VERIFICATION
from saigen.runs.record import NAME, is_proven_by, outcome_digest, read_record
from saigen.runs.store import FOLDER

_TIMES = ("started_at", "finished_at")  # of a run; no one alteration changes both


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
    path, published = runs / ledger.NAME, runs.parent / RESULTS
    read: dict[Path, tuple[str, dict[str, Any] | Refusal]] = {}
    with ExitStack() as held:  # nothing is entered or published while this is read
        with suppress(OSError):  # a folder that cannot be written is read all the same
            held.enter_context(locked(runs / LOCK))
            with suppress(Refusal):  # of an altered ledger, which is told below
                ledger.settle(runs)
        content = path.read_bytes() if path.is_file() else b""
        for file in (*sorted(runs.glob(f"*/{NAME}")), published / NAME):
            if file.is_file():
                read[file.parent] = digest_file(file), _read(file.parent)
        entries: list[Finding | str] = []
        if published in read and isinstance(record := read[published][1], dict):
            entries += _files(published, record, elsewhere=True)
    lines, altered = ledger.examine(content)
    entries[:0] = [
        Finding(where=f"{path}:{number}", what="the line is not the one that was written")
        for number in altered
    ]
    entries += [f"{path}: its last line was torn while it was written; the next run cuts it off"
             for _ in range(bool(ledger.torn_tail(content)))]  # fmt: skip
    aside = {str(line["repaired"]) for line in lines if "repaired" in line}
    entries += [f"{path}: repaired; what stood there is in {name}" for name in sorted(aside)]
    newest = {str(line.get("run")): line for line in lines}
    entries += [f"{run}: in the ledger, its folder is not here" for run in newest
             if not (runs / run).is_dir()]  # fmt: skip
    files = 0
    for folder, (digest, record) in read.items():
        if isinstance(record, Refusal):
            what = f"the record cannot be read: {record.got}"
            entries.append(Finding(where=str(folder / NAME), what=what))
            continue
        if folder == published:
            entries += _published(folder, digest, record, lines)
        else:
            entries += _entered(folder, digest, record, newest.get(folder.name))
            entries += _files(folder, record, elsewhere=False)
        files += len(record["files"])
    kept = sorted((runs / FOLDER).glob("[!.]*"))
    wrong = [copy for copy in kept if not is_regular(copy) or digest_file(copy) != copy.name]
    entries += [Finding(where=str(copy), what="not the bytes that its name says") for copy in wrong]
    findings = [one for one in entries if isinstance(one, Finding)]
    return Audit(
        verdict="altered" if findings else "intact",
        lines=len(lines),
        runs=len(read),
        files=files + len(kept),
        findings=findings,
        notes=[one for one in entries if isinstance(one, str)],
    )


def _read(folder: Path) -> dict[str, Any] | Refusal:
    try:
        return read_record(folder)
    except Refusal as refusal:
        return refusal


def _entered(
    folder: Path, digest: str, record: dict[str, Any], line: dict[str, Any] | None
) -> Iterator[Finding | str]:
    """A record against the newest line of the ledger that is about it."""
    file = folder / NAME
    if line is None and record["complete"]:
        yield Finding(where=str(file), what="complete, and the ledger has no line for it")
    elif line is None:
        yield f"{folder.name}: not complete, so nothing vouches for it yet"
    elif "record" not in line:
        yield f"{folder.name}: entered before the ledger held digests of records"
    elif digest != line["record"]:
        where = ", ".join(_inner(record, line)) or "outside recipe and outcome"
        yield Finding(where=str(file), what=f"the record is not the one that was entered ({where})")


def _published(
    folder: Path, found: str, record: dict[str, Any], lines: list[dict[str, Any]]
) -> Iterator[Finding | str]:
    """The published record against the ledger or, byte for byte, the last commit. Where neither
    knows the run (it was not committed, and runs/ is gone), against itself.
    """
    committed = git_dvc.committed(folder, "HEAD", NAME) or b""
    if found in {line.get("record") for line in lines} or found == digest_bytes(committed):
        return
    own = {"recipe": record["recipe"]["digest"], "outcome": record["outcome"]["digest"]}
    if any(line["run"] == record["run"] for line in lines) or _differs(record, committed):
        what = "neither the ledger nor the last commit has this record"
        yield Finding(where=str(folder / NAME), what=what)
    elif where := ", ".join(_inner(record, own)):
        yield Finding(
            where=str(folder / NAME), what=f"its digests are not of what it says ({where})"
        )
    else:
        yield f"{folder / NAME}: neither committed nor in a ledger here: nothing vouches for it yet"


def _differs(record: dict[str, Any], committed: bytes) -> bool:
    """Whether a committed record is of the same run, and differs in more than claims."""
    try:
        other = json.loads(committed)
        times = [other["metadata"][at] != record["metadata"].get(at) for at in _TIMES]
    except (ValueError, KeyError, TypeError):
        return bool(committed)
    return not all(times) and other | {"claims": {}} != record | {"claims": {}}


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
        if path.exists() or path.is_symlink():
            if not is_regular(path) or digest_file(path) != expected:
                yield Finding(where=str(path), what="not the bytes that were written")
        elif not elsewhere:
            yield Finding(where=str(path), what="missing")
        elif name == "trace.bin":
            yield f"{path}: not here; `dvc pull` brings it"
    if elsewhere:
        yield from _beside(folder, record)
    elif record["complete"] and record["files"]:
        for name in sorted(set(ledger.own_files(folder)) - record["files"].keys()):
            yield Finding(where=str(folder / name), what="the record does not name it")


def _beside(folder: Path, record: dict[str, Any]) -> Iterator[Finding]:
    """What lies beside a published record and is said to be of its run."""
    metrics, proof = (folder / name for name in ("metrics.json", VERIFICATION))
    if metrics.is_file() and metrics.read_bytes() != json_bytes(record["outcome"]["metrics"]):
        yield Finding(where=str(metrics), what="not the metrics of the record beside it")
    if proof.is_file() and not is_proven_by(record, proof):
        yield Finding(where=str(proof), what="of another recipe than the record beside it")


def audit_text(found: Audit) -> str:
    """An audit, for a person."""
    rows = [one_line(f"ALTERED  {finding.where}: {finding.what}") for finding in found.findings]
    rows += [one_line(f"note     {note}") for note in found.notes]
    checked = f"{found.lines} ledger lines, {found.runs} records, {found.files} files"
    return "\n".join([*rows, f"{found.verdict}: {checked}"])
