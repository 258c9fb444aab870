"""The ledger: which recipe gave which outcome, append-only, each line chained to the one before.

One recipe with two outcomes is a reproducibility violation, unless its agreement promises no
bits; `append` finds it in the moment in which it happens. The last write of a run goes through
here.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saigen.digest import canonical_json, digest_bytes, digest_file, digest_value
from saigen.files import json_bytes, write_whole
from saigen.records.circumstances import now
from saigen.records.record import NAME as RECORD
from saigen.records.record import Record, promises_bits
from saigen.refusal import Refusal

NAME = "ledger.jsonl"
_GENESIS = "0" * 64


@dataclass(frozen=True)
class Standing:
    """What the ledger says of a run that was just entered."""

    times: int  # how often this recipe was made, this run included
    other: str | None  # an earlier run of the recipe with another outcome
    bits: bool  # whether its agreement promises bits

    @property
    def violated(self) -> bool:
        """Whether a promise was broken."""
        return self.bits and self.other is not None

    def __str__(self) -> str:
        if self.violated:
            return f"VIOLATION: the same recipe gave another outcome in {self.other}"
        if self.times == 1:
            return "made for the first time"
        how = f"with other bits than {self.other}, as its agreement allows"
        return f"made again, {how if self.other else 'identical'} ({ordinal(self.times)} time)"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def complete(folder: Path, record: dict[str, Any], event: str = "finished") -> Standing:
    """Close a run, or enter what was proven of it since: the digest of every file below its folder
    goes into its record, and the record's into the ledger.

    The ledger line with the digest of the coming record is written first and the record, with
    its completion mark, last: whoever finds the mark finds the line.
    """
    names = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    record["files"] = {
        name: digest_file(path)
        for name, path in names.items()
        if name != RECORD and not any(part.startswith(".") for part in Path(name).parts)
    }
    record["complete"] = True
    Record.model_validate(record)
    content = json_bytes(record)
    standing = append(folder.parent, record, digest_bytes(content), event)
    write_whole(folder / RECORD, content)
    return standing


def append(runs: Path, record: dict[str, Any], record_sha256: str, event: str) -> Standing:
    """Enter a run, under a lock and with fsync, before its record is written.

    `record_sha256` is of the bytes that are about to be written; `event` says why (`finished`,
    `claims`). A run that was entered before (a crash between ledger and record, new claims) is
    the same run still. Raises Refusal on a broken chain.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / NAME).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = _parse(file.read(), runs / NAME)
        entry = {
            "number": len(known),
            "run": record["run"],
            "recipe": record["recipe"]["digest"],
            "outcome": record["outcome"]["digest"],
            "record": record_sha256,
            "event": event,
            "at": now(),
            "previous": known[-1]["digest"] if known else _GENESIS,
        }
        file.write(_line(entry | {"digest": digest_value(entry)}))
        file.flush()
        os.fsync(file.fileno())
    return standing_of(entry, known, bits=promises_bits(record))


def standing_of(
    entry: Mapping[str, Any], known: Sequence[Mapping[str, Any]], *, bits: bool
) -> Standing:
    """How a line of the ledger stands among the lines before it."""
    others = {
        line["run"]: line["outcome"]
        for line in known
        if line["recipe"] == entry["recipe"] and line["run"] != entry["run"]
    }
    other = next((run for run, out in others.items() if out != entry["outcome"]), None)
    return Standing(times=len(others) + 1, other=other, bits=bits)


def entries(runs: Path) -> list[dict[str, Any]]:
    """All lines of the ledger, the chain checked; empty if there is none."""
    path = runs / NAME
    return _parse(path.read_bytes(), path) if path.is_file() else []


def examine(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that can be read, and the numbers (from 1) of those that were altered.

    A line must be, byte for byte, what `append` writes; a line whose digest changed breaks the
    chain at the next one too.
    """
    found: list[dict[str, Any]] = []
    altered: list[int] = []
    previous = _GENESIS
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            entry: dict[str, Any] = json.loads(line)
            body = {key: value for key, value in entry.items() if key != "digest"}
            whole = (
                line == _line(entry)
                and entry["digest"] == digest_value(body)
                and entry["previous"] == previous
                and entry["number"] == number - 1
            )
            previous = entry["digest"]
            found += [entry] if isinstance(entry["run"], str) else []
        except (ValueError, KeyError, TypeError, AttributeError):
            whole, previous = False, ""
        if not whole:
            altered.append(number)
    return found, altered


def _parse(content: bytes, path: Path) -> list[dict[str, Any]]:
    found, altered = examine(content)
    if altered:
        line = content.splitlines()[altered[0] - 1].decode(errors="replace")
        raise Refusal(
            "the ledger was altered",
            where=f"{path}:{altered[0]}",
            expected="the line as it was written, chained to the one before",
            got=line[:80],
            fix="bring the ledger back from git or a backup; do not mend it by hand",
        )
    return found


def _line(entry: Mapping[str, Any]) -> bytes:
    return (canonical_json(entry) + "\n").encode()
