"""The list of runs: what each is called, how it stands, and what the ledger says of its recipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.records import ledger
from saigen.records.document import Document
from saigen.records.record import read_record
from saigen.records.runs import all_runs, is_claimed
from saigen.refusal import Refusal


class Row(Document):
    """One run."""

    run: str
    started_at: str
    state: Literal["complete", "running", "interrupted", "violation"]
    recipe: str
    outcome: str | None
    metrics: dict[str, float]
    made: str = Field(description="which making of this recipe it was, and whether it agreed")
    claims: dict[str, str] = Field(description="held, broken or not tried, by claim")
    config: dict[str, Any] = Field(description="every value, by full key")


class Listing(Document):
    """The document of `saigen runs --json`."""

    schema_: Literal["saigen-runs-1"] = Field(default="saigen-runs-1", serialization_alias="schema")
    runs: list[Row]


def listing(runs: Path, filters: Sequence[str] = (), sort: str | None = None) -> Listing:
    """Runs that fit every `KEY=VALUE`, the oldest first or sorted by KEY (`-KEY`: downwards).

    KEY is a column, a metric, a claim or a full config key. Raises Refusal on an unknown KEY.
    """
    lines = ledger.entries(runs)
    rows = [_row(folder, lines) for folder in all_runs(runs)]
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise _unknown(text, "KEY=VALUE, such as optimizer.lr=0.003 or state=complete")
        rows = [row for row in rows if _same(_value(row, key, rows), value)]
    if sort:
        key = sort.removeprefix("-")
        keyed = [(_value(row, key, rows), row) for row in rows]
        known = sorted(
            (pair for pair in keyed if pair[0] is not None),
            key=lambda pair: (isinstance(pair[0], str), pair[0]),
            reverse=sort.startswith("-"),
        )
        rows = [row for _, row in known] + [row for value, row in keyed if value is None]
    return Listing(runs=rows)


def leaves(values: Any, head: str = "") -> dict[str, Any]:
    """The values of a tree of mappings, by full key; a list is a value."""
    if not isinstance(values, dict) or not values:
        return {head: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{head}.{key}" if head else str(key))
    return found


def _row(folder: Path, lines: Sequence[dict[str, Any]]) -> Row:
    record = read_record(folder)
    line = next((line for line in lines if line["run"] == record["run"]), None)
    standing = ledger.standing_of(line, lines[: line["number"]]) if line else None
    circumstances = record["circumstances"]
    return Row(
        run=record["run"],
        started_at=circumstances["started_at"],
        state=_state(folder, record, standing),
        recipe=record["recipe"]["digest"],
        outcome=record["outcome"]["digest"],
        metrics=record["outcome"]["metrics"] or {},
        made=str(standing) if standing else "not in the ledger",
        claims={name: claim["result"] for name, claim in record["claims"].items()},
        config=leaves(record["recipe"]["layers"]["config"]["values"])
        | leaves(circumstances.get("config", {})),
    )


def _state(folder: Path, record: dict[str, Any], standing: ledger.Standing | None) -> Any:
    if standing and standing.violated:
        return "violation"
    if record["complete"]:
        return "complete"
    return "running" if is_claimed(folder) else "interrupted"


def _value(row: Row, key: str, rows: Sequence[Row]) -> Any:
    columns = row.model_dump(exclude={"metrics", "claims", "config"})
    for place in (columns, row.metrics, row.claims, row.config):
        if key in place:
            return place[key]
    if any(key in place for other in rows for place in (other.metrics, other.claims, other.config)):
        return None
    raise _unknown(key, "a column, a metric, a claim, or a full config key such as optimizer.lr")


def _same(value: Any, text: str) -> bool:
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        words = {True: "true", False: "false", None: "null"}
        return bool((words[value] if value in (True, False, None) else str(value)) == text)


def _unknown(key: str, expected: str) -> Refusal:
    return Refusal(
        "runs have no such key",
        where="saigen runs",
        expected=expected,
        got=key,
        fix="`saigen runs --json` shows every key and value",
    )
