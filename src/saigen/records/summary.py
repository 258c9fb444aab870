"""Records in a few lines, for a person."""

from collections.abc import Sequence
from typing import Any

from saigen.recipe.layer import LAYERS
from saigen.records.listing import Row

_HEAD = 12  # hex digits of a digest that a person reads; the record holds all 64


def metrics_line(record: dict[str, Any]) -> str:
    """The metrics of a record on one line."""
    metrics = record["outcome"]["metrics"] or {}
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()) or "not evaluated"


def run_table(record: dict[str, Any]) -> str:
    """One run: its metrics, digests and files, and what to try next."""
    outcome = record["outcome"]
    weights = outcome["weights"] or {}
    rows = [(name, f"{value:.4f}") for name, value in (outcome["metrics"] or {}).items()]
    rows += [
        ("run", record["run"] + ("" if record["complete"] else " (not complete)")),
        ("recipe", record["recipe"]["digest"][:_HEAD]),
        *((f"  {n}", record["recipe"]["layers"][n]["digest"][:_HEAD]) for n in LAYERS),
        ("outcome", (outcome["digest"] or "-")[:_HEAD]),
        ("weights", weights.get("sha256", "-")[:_HEAD]),
        ("claims", _proven(record["claims"])),
        ("files", f"runs/{record['run']}/: weights in model/, the curve in history.csv"),
        ("next", f"saigen show {record['run'][:6]} --json; saigen train model=cnn; saigen runs"),
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
            row.state.upper() if row.state == "violation" else row.state,
            ", ".join(f"{n} {v:.4f}" for n, v in row.metrics.items()) or "not evaluated",
            _claims(row.claims),
            row.made,
        )
        for row in rows
    ]
    return _table([head, *lines])


def _claims(claims: dict[str, str]) -> str:
    if not claims:
        return "-"
    held = sum(result == "held" for result in claims.values())
    broken = [name for name, result in claims.items() if result == "broken"]
    return f"{held} held" + (f", {len(broken)} BROKEN: {', '.join(broken)}" if broken else "")


def _proven(claims: dict[str, Any]) -> str:
    """What `verify` wrote into a record."""
    if not claims:
        return "none tried; `saigen verify` tries them"
    steps = {claim["steps"] for claim in claims.values()}
    tried = "whole trainings" if steps == {None} else f"trainings of {max(steps - {None})} steps"
    return f"{_claims({name: claim['result'] for name, claim in claims.items()})}, in {tried}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
