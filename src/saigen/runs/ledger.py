"""The ledger: which recipe gave which outcome, append-only, each line chained to the one before.

One recipe with two outcomes is a reproducibility violation, unless its reproducibility promises no
bits; `append` finds it in the moment in which it happens. The last write of a run goes through
here.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from saigen.digest import canonical_json, digest_bytes, digest_file, digest_value
from saigen.documents import Count, Document, Name, RunId, Sha256, conform, parse_json, regular
from saigen.errors import Refusal
from saigen.files import json_bytes, locked, sync_folder, write_whole
from saigen.runs.folders import LOCK, readable
from saigen.runs.metadata import now
from saigen.runs.record import NAME as RECORD
from saigen.runs.record import promises_bits, refuse_unwritable

NAME = "ledger.jsonl"
_GENESIS = "0" * 64
_READY = ".record.entered"  # in a run folder: the record that is about to be entered


class Line(Document):
    """One line: a run that was entered, chained to the line before."""

    number: Count
    run: RunId
    recipe: Sha256
    outcome: Sha256
    record: Sha256 = Field(description="of the record that was written next")
    event: Name
    at: Name
    previous: Sha256
    repaired: Name | None = Field(default=None, description="the file that it was taken from")
    digest: Sha256


@dataclass(frozen=True)
class RecipeHistory:
    """What the ledger says of a run that was just entered."""

    times: int  # how often this recipe was made, this run included
    other: str | None  # an earlier run of the recipe with another outcome
    bits: bool  # whether its reproducibility promises bits
    cut: str = ""  # what was cut from the ledger's end before the run was entered

    @property
    def violated(self) -> bool:
        """Whether a promise was broken."""
        return self.bits and self.other is not None

    def __str__(self) -> str:
        if self.violated:
            return f"VIOLATION: the same recipe gave another outcome in {self.other}"
        if self.times == 1:
            return "made for the first time"
        how = f"with other bits than {self.other}, as its reproducibility allows"
        return f"made again, {how if self.other else 'identical'} ({ordinal(self.times)} time)"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def complete(folder: Path, record: dict[str, Any], event: str = "finished") -> RecipeHistory:
    """Close a run, or enter what was proven of it since: the digest of every file below its folder
    goes into its record, once, and the record's into the ledger.

    The ledger line with the digest of the coming record is written first and the record, with
    its completion mark, last: whoever finds the mark finds the line. The record lies ready beside
    before the line is written, for `settle`.
    """
    if not (record["complete"] and record["files"]):  # what was altered since would be vouched for
        record["files"] = {name: digest_file(folder / name) for name in own_files(folder)}
    record["complete"] = True
    refuse_unwritable(record)
    content = json_bytes(record)
    with locked(folder.parent / LOCK):  # whoever holds it finds both, or neither
        write_whole(folder / _READY, content)
        history = append(folder.parent, record, digest_bytes(content), event)
        (folder / _READY).replace(folder / RECORD)
        sync_folder(folder)
    return history


def own_files(folder: Path) -> list[str]:
    """The files of a run folder that its record names: all but itself and hidden ones."""
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    hidden = (any(part.startswith(".") for part in name.parts) for name in names)
    return [
        str(n) for n, hides in zip(names, hidden, strict=True) if not hides and str(n) != RECORD
    ]


def settle(runs: Path) -> None:
    """Put in place each record that was entered, by a process that was killed before it had done
    so. To be called under the lock of runs/. Raises Refusal on a broken chain.
    """
    ready = list(runs.glob(f"*/{_READY}"))
    newest = {line["run"]: line.get("record") for line in entries(runs)} if ready else {}
    for path in ready:
        if digest_file(path) == newest.get(path.parent.name):
            path.replace(path.with_name(RECORD))
        else:
            path.unlink()


def append(runs: Path, record: dict[str, Any], record_sha256: str, event: str) -> RecipeHistory:
    """Enter a run, with fsync, before its record is written. To be called under the lock of runs/.

    `record_sha256` is of the bytes that are about to be written; `event` says why (`finished`,
    `claims`). A run that was entered before (a crash between ledger and record, new claims) is
    the same run still. A line that was torn while it was written is cut off: nobody was told of
    it. Raises Refusal on a broken chain.
    """
    with (runs / NAME).open("a+b") as file:
        file.seek(0)
        content = file.read()
        known, torn = _parse(content, runs / NAME), torn_tail(content)
        if torn:
            file.truncate(len(content) - len(torn))
        elif not content.endswith(b"\n") and content:
            file.write(b"\n")  # all of the line but its end is there
        entry = _entry(record, record_sha256, event, known)
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())
    history = history_of(entry, known, bits=promises_bits(record))
    cut = f"{runs / NAME}: cut off a line that was torn while it was written: {torn[:80]!r}"
    return replace(history, cut=cut) if torn else history


def repair(runs: Path) -> str:
    """Enter every complete run that the ledger has no line for; an altered ledger is put aside, and
    its lines that are whole begin another, each with the name of that file. Returns what was done.
    """
    with locked(runs / LOCK):
        content = (runs / NAME).read_bytes() if (runs / NAME).is_file() else b""
        whole, altered = examine(content)
        records = {folder.name: record for folder, record in readable(runs) if record["complete"]}
        if not altered and records.keys() <= {line["run"] for line in whole}:
            return "nothing to repair: the ledger is whole"
        lines, aside = (
            ([], f"ledger-{digest_bytes(content)[:12]}.altered") if altered else (whole, "")
        )
        for line in whole if altered else ():
            if digest_value(_without(line, "digest")) == line["digest"]:
                lines.append(_chained(line, lines, aside))
        kept, entered = len(lines), {line["run"] for line in lines}
        for run, record in records.items():
            if run not in entered:
                digest = digest_file(runs / run / RECORD)
                lines.append(_entry(record, digest, "repaired", lines))
        if aside:
            write_whole(runs / aside, content)
        write_whole(runs / NAME, b"".join(map(_line, lines)))
    note = f"; what stood there is in {runs / aside}" if aside else ""
    return f"{runs / NAME}: {kept} lines kept, {len(lines) - kept} runs entered again{note}"


def _entry(
    record: Mapping[str, Any], record_sha256: str, event: str, known: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The line that enters a run behind the lines that are known."""
    entry = {
        "run": record["run"],
        "recipe": record["recipe"]["digest"],
        "outcome": record["outcome"]["digest"],
        "record": record_sha256,
        "event": event,
        "at": now(),
    }
    return _chained(entry, known)


def _chained(
    line: Mapping[str, Any], known: Sequence[Mapping[str, Any]], repaired: str = ""
) -> dict[str, Any]:
    """A line as it stands behind others; `repaired`: the file that it was taken from."""
    previous = known[-1]["digest"] if known else _GENESIS
    entry = _without(line, "digest") | {"number": len(known), "previous": previous}
    entry |= {"repaired": repaired} if repaired else {}
    return entry | {"digest": digest_value(entry)}


def _without(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != name}


def torn_tail(content: bytes) -> bytes:
    """What stands behind the last line's end and is no whole line: its writing was interrupted, so
    that nobody was told of it. What is more than a line was altered, and is no such tail.
    """
    tail = content[content.rfind(b"\n") + 1 :]
    try:
        json.JSONDecoder().raw_decode(tail.decode(errors="replace"))
    except (ValueError, RecursionError):
        return tail
    return b""


def history_of(
    entry: Mapping[str, Any], known: Sequence[Mapping[str, Any]], *, bits: bool
) -> RecipeHistory:
    """How a line of the ledger stands among the lines before it."""
    others = {
        line["run"]: line["outcome"]
        for line in known
        if line["recipe"] == entry["recipe"] and line["run"] != entry["run"]
    }
    other = next((run for run, out in others.items() if out != entry["outcome"]), None)
    return RecipeHistory(times=len(others) + 1, other=other, bits=bits)


def entries(runs: Path) -> list[dict[str, Any]]:
    """All lines of the ledger, the chain checked; empty if there is none. Raises Refusal if it was
    altered.
    """
    path = regular(runs, NAME)
    return _parse(path.read_bytes(), path) if path else []


def refuse_unusable(runs: Path) -> None:
    """Raise Refusal or an OSError if a run could not be entered, before it is trained."""
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs / LOCK):
        entries(runs)


def examine(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that can be read, and the numbers (from 1) of those that were altered.

    A line must be, byte for byte, what `append` writes; a line whose digest changed breaks the
    chain at the next one too. A torn tail is neither.
    """
    found: list[dict[str, Any]] = []
    altered: list[int] = []
    previous = _GENESIS
    written = content.removesuffix(torn_tail(content))
    lines = written.removesuffix(b"\n").split(b"\n") if written else []
    for number, line in enumerate(lines, start=1):
        try:
            entry: dict[str, Any] = parse_json(line)
            conform(entry, Line)
            whole = (
                line + b"\n" == _line(entry)
                and entry["digest"] == digest_value(_without(entry, "digest"))
                and entry["previous"] == previous
                and entry["number"] == number - 1
            )
            previous = entry["digest"]
            found.append(entry)
        except ValueError:
            whole, previous = False, ""
        if not whole:
            altered.append(number)
    return found, altered


def _parse(content: bytes, path: Path) -> list[dict[str, Any]]:
    found, altered = examine(content)
    if altered:
        line = content.split(b"\n")[altered[0] - 1].decode(errors="replace")
        raise Refusal(
            "the ledger was altered",
            where=f"{path}:{altered[0]}",
            expected="the line as it was written, chained to the one before",
            got=line[:80],
            fix="`saigen audit --repair` puts it aside and enters again what is whole; or bring "
            "the file back from a backup",
        )
    return found


def _line(entry: Mapping[str, Any]) -> bytes:
    return (canonical_json(entry) + "\n").encode()
