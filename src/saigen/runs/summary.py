"""Records in a few lines, for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from saigen.printing import one_line
from saigen.recipe import LAYERS
from saigen.runs.listing import Row
from saigen.runs.record import Metric, is_watched

_HEAD = 12  # hex digits of a digest that a person reads; the record holds all 64
# of a run of the template, and of a loop that was watched
_FILES = ("weights in model/, the curve in history.csv", "the trace; weights are the script's")


def metrics_line(metrics: Mapping[str, Metric] | None) -> str:
    """Metrics on one line."""
    text = ", ".join(f"{name} {float(value):.4f}" for name, value in (metrics or {}).items())
    return one_line(text) or "not evaluated"


def run_table(record: dict[str, Any]) -> str:
    """One run: its metrics, digests and files, and what to try next."""
    outcome, layers = record["outcome"], record["recipe"]["layers"]
    weights = outcome["weights"] or {}
    rows = [(name, f"{float(value):.4f}") for name, value in (outcome["metrics"] or {}).items()]
    rows += [
        ("run", record["run"] + _unfinished(record)),
        ("recipe", record["recipe"]["digest"][:_HEAD]),
        *((f"  {name}", layers[name]["digest"][:_HEAD]) for name in LAYERS),
        ("outcome", (outcome["digest"] or "-")[:_HEAD]),
        ("weights", weights.get("sha256", "-")[:_HEAD]),
        ("claims", _proven(record["claims"])),
        ("files", f"runs/{record['run']}/: {_FILES[is_watched(record)]}"),
        ("next", f"saigen show {record['run'][:6]} --json; {_next(record)}; saigen runs"),
    ]
    return _table(rows)


def runs_table(rows: Sequence[Row]) -> str:
    """Runs, one a line."""
    if not rows:
        return "no runs to list; `make train` makes the first one"
    head = ("run", "started", "recipe", "outcome", "state", "metrics", "claims", "made")
    lines = [
        (
            row.run,
            row.started_at[:19],
            row.recipe[:_HEAD],
            (row.outcome or "-")[:_HEAD],
            _state(row),
            metrics_line(row.metrics),
            _score(row.claims),
            row.made,
        )
        for row in rows
    ]
    return _table([head, *lines])


def _state(row: Row) -> str:
    if row.failure:
        return f"failed: {row.failure}"
    return row.state.upper() if row.state == "violation" else row.state


def _next(record: dict[str, Any]) -> str:
    return (
        f"saigen verify {record['run']}" if is_watched(record) else "saigen train randomness.seed=1"
    )


def _unfinished(record: dict[str, Any]) -> str:
    if record["complete"]:
        return ""
    failure = record["metadata"].get("failure")
    return f" (failed: {failure['what']})" if failure else " (not complete)"


def _score(claims: Mapping[str, str]) -> str:
    if not claims:
        return "-"
    held = sum(result == "held" for result in claims.values())
    broken = [name for name, result in claims.items() if result == "broken"]
    return f"{held} held" + (f", {len(broken)} BROKEN: {', '.join(broken)}" if broken else "")


def _proven(claims: Mapping[str, Any]) -> str:
    """What `verify` wrote into a record."""
    if not claims:
        return "none tried; `saigen verify` tries them"
    steps = {claim["steps"] for claim in claims.values()}
    tried = "whole trainings" if steps == {None} else f"trainings of {max(steps - {None})} steps"
    return f"{_score({name: claim['result'] for name, claim in claims.items()})}, in {tried}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
