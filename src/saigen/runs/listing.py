"""The list of runs: what each is called, how it stands, and what the ledger says of its recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.documents import Document
from saigen.errors import Refusal
from saigen.runs import ledger
from saigen.runs.folders import all_runs, is_claimed
from saigen.runs.record import Metric, promises_bits, read_record


class Row(Document):
    """One run."""

    run: str
    started_at: str
    state: Literal["complete", "running", "interrupted", "failed", "violation", "unreadable"]
    failure: str | None = Field(description="what ended a run that failed")
    recipe: str
    outcome: str | None
    metrics: dict[str, Metric]
    made: str = Field(description="which making of this recipe it was, and whether it agreed")
    claims: dict[str, str] = Field(description="held, broken or not tried, by claim")
    config: dict[str, Any] = Field(description="every value, by full key")

    def keys(self) -> dict[str, Any]:
        """What runs are filtered and sorted by: config keys, claims, metrics and columns."""
        columns = self.model_dump(exclude={"metrics", "claims", "config"})
        return self.config | self.claims | self.metrics | columns


class Listing(Document):
    """The document of `saigen runs --json`."""

    schema_: Literal["saigen-runs-1"] = Field(default="saigen-runs-1", serialization_alias="schema")
    runs: list[Row]


def listing(runs: Path, filters: Sequence[str] = (), sort: str | None = None) -> Listing:
    """Runs that fit every `KEY=VALUE`, the oldest first or sorted by KEY (`-KEY`: downwards).

    KEY is a column, a metric, a claim or a full config key. Raises Refusal on an unknown KEY.
    """
    path = runs / ledger.NAME
    lines, altered = ledger.examine(path.read_bytes() if path.is_file() else b"")
    rows = [_row(folder, lines, altered=bool(altered)) for folder in all_runs(runs)]
    keys = {row.run: row.keys() for row in rows}
    known = {key for row in keys.values() for key in row}
    for text in filters:
        key, equals, wanted = text.partition("=")
        if not equals:
            raise _unknown(text, "KEY=VALUE, such as optimizer.lr=0.003 or state=complete")
        _refuse_unknown(key, known)
        rows = [row for row in rows if _same(keys[row.run].get(key), wanted)]
    if sort:
        key = sort.removeprefix("-")
        _refuse_unknown(key, known)
        found = {row.run: _sortable(keys[row.run].get(key)) for row in rows}
        last = [row for row in rows if found[row.run] is None]  # upwards and downwards
        rows = [row for row in rows if row not in last]
        rows.sort(key=lambda row: _rank(found[row.run]), reverse=sort.startswith("-"))
        rows += last
    return Listing(runs=rows)


def leaves(values: Any, head: str = "") -> dict[str, Any]:
    """The values of a tree of mappings, by full key; a list is a value."""
    if not isinstance(values, dict) or not values:
        return {head: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{head}.{key}" if head else str(key))
    return found


def _row(folder: Path, lines: Sequence[dict[str, Any]], *, altered: bool) -> Row:
    try:
        record = read_record(folder)
    except Refusal as refusal:
        return Row(run=folder.name, started_at="", state="unreadable", failure=None, recipe="",
                   outcome=None, metrics={}, made=f"its record: {refusal.got}", claims={},
                   config={})  # fmt: skip
    line = next((line for line in lines if line["run"] == record["run"] and not altered), None)
    bits = promises_bits(record)
    history = ledger.history_of(line, lines[: line["number"]], bits=bits) if line else None
    unknown = "the ledger was altered: `saigen audit`" if altered else "not in the ledger"
    failure = record["metadata"].get("failure")
    state = "complete" if record["complete"] else "failed" if failure else "interrupted"
    if history and history.violated:
        state = "violation"
    elif not record["complete"] and is_claimed(folder):
        state = "running"
    return Row.model_validate(
        {
            "run": record["run"],
            "started_at": record["metadata"]["started_at"],
            "state": state,
            "failure": failure["what"] if state == "failed" else None,
            "recipe": record["recipe"]["digest"],
            "outcome": record["outcome"]["digest"],
            "metrics": record["outcome"]["metrics"] or {},
            "made": str(history or unknown),
            "claims": {name: claim["result"] for name, claim in record["claims"].items()},
            "config": leaves(record["recipe"]["layers"]["config"]["values"])
            | leaves(record["metadata"].get("config", {})),
        }
    )


def _sortable(value: Any) -> Any:
    """A value as it is sorted: NaN as if it were not there."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return None if value == "NaN" else float(value)
    return value


def _rank(value: Any) -> tuple[bool, Any]:
    """Numbers by size, then everything else by its text."""
    return (False, value) if isinstance(value, int | float) else (True, str(value))


def _same(value: Any, text: str) -> bool:
    """Whether a value is what was written on the command line."""
    try:
        return float(value) == float(text) or str(value) == text
    except (TypeError, ValueError):
        words = {True: "true", False: "false", None: "null"}
        return bool((words[value] if value in (True, False, None) else str(value)) == text)


def _refuse_unknown(key: str, known: set[str]) -> None:
    if known and key not in known:
        raise _unknown(key, "a column, a metric, a claim, or a full config key: optimizer.lr")


def _unknown(key: str, expected: str) -> Refusal:
    return Refusal(
        "runs have no such key",
        where="saigen runs",
        expected=expected,
        got=key,
        fix="`saigen runs --json` shows every key and value",
    )
