"""Why do two runs differ? Layer by layer in causal order, then the verdict."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from saigen.analysis import source_differences as sources
from saigen.analysis import tables
from saigen.analysis import watched_differences as watched
from saigen.analysis.difference import Difference
from saigen.analysis.divergence import Divergence, divergence
from saigen.analysis.observed_differences import observed
from saigen.analysis.run import Run
from saigen.analysis.values import values
from saigen.analysis.verdict import Verdict, verdict
from saigen.digest import digest_file
from saigen.documents import Document, regular
from saigen.errors import Refusal
from saigen.recipe import LAYERS
from saigen.runs.record import Metric, is_watched


class Side(Document):
    """One of the two runs."""

    run: str
    folder: str
    started_at: str
    recipe: str
    outcome: str
    metrics: dict[str, Metric]


class Trial(Document):
    """One suspect, and what came of giving B the value of A."""

    suspect: str
    result: Literal["confirmed", "a part of it", "refuted", "not tried"]
    words: str

    def __str__(self) -> str:
        return f"{self.result:<13}{self.suspect}: {self.words}"


class Deep(Document):
    """What parts first when the step is replayed operation by operation."""

    step: int = Field(description="-1: while the model is built")
    module: str | None = Field(description="path in the model")
    operation: str | None
    line: str | None = Field(description="of the project's own code")
    words: str


class Diff(Document):
    """The document of `saigen diff --json`."""

    schema_: Literal["saigen-diff-1"] = Field(default="saigen-diff-1", serialization_alias="schema")
    a: Side
    b: Side
    incomparable: str | None = Field(description="why the metrics cannot be compared; null: can")
    same_recipe: bool
    same_outcome: bool
    layers: dict[str, bool] = Field(description="whether each layer of the recipe is equal")
    differences: list[Difference] = Field(description="in the order in which one looks")
    outcome: list[str] = Field(description="what came out otherwise")
    trace: Divergence
    verdict: Verdict
    deep: Deep | None = Field(default=None, description="what --deep found")
    trials: list[Trial] = Field(default_factory=list, description="what --confirm tried")


def diff(a: Run, b: Run) -> Diff:
    """Compare two runs. Raises Refusal if one of them has no outcome."""
    for run in (a, b):
        _refuse_altered(run)
        if run.outcome["digest"] is None:
            raise Refusal(
                "a run without an outcome cannot be compared",
                where=str(run.folder),
                expected="a complete run",
                got="training or evaluation did not end",
                fix="start its script again"
                if is_watched(run.record)
                else "the same command that made it continues it",
            )
    watched.refuse_mixed(a, b)
    undeclared = observed(a, b)
    recipe = [*tables.data(a, b, undeclared), *sources.code(a, b), *values(a, b)]
    differences = [*recipe, *undeclared]
    differences.sort(key=lambda d: (*LAYERS, "metadata").index(d.layer))
    parted = divergence(a, b)
    return Diff(
        a=_side(a),
        b=_side(b),
        incomparable=tables.evaluation_mismatch(a, b),
        same_recipe=a.record["recipe"]["digest"] == b.record["recipe"]["digest"],
        same_outcome=a.outcome["digest"] == b.outcome["digest"],
        layers={name: a.layer(name)["digest"] == b.layer(name)["digest"] for name in LAYERS},
        differences=differences,
        outcome=list(_outcome(a, b)),
        trace=parted,
        verdict=verdict(a, b, differences, parted),
    )


def _refuse_altered(run: Run) -> None:
    """Raise Refusal if a file that is compared is not the one that the record names."""
    for name, part in (("trace.bin", "trace"), ("predictions.csv", "predictions")):
        expected, path = (run.outcome[part] or {}).get("sha256"), run.folder / name
        if expected and path.is_file() and (found := digest_file(path)) != expected:
            raise Refusal(
                "a file of a run is not the one that its record names",
                where=str(path),
                expected=f"sha256 {expected}",
                got=f"sha256 {found}",
                fix=f"bring it back from a backup or the remote (`dvc checkout`), or make the run "
                f"again: `saigen rerun {run.name}`",
            )


def _side(run: Run) -> Side:
    return Side(
        run=run.name,
        folder=str(run.folder),
        started_at=run.record["metadata"]["started_at"],
        recipe=run.record["recipe"]["digest"],
        outcome=run.outcome["digest"],
        metrics=run.outcome["metrics"],
    )


def _outcome(a: Run, b: Run) -> Iterator[str]:
    left, right = a.outcome, b.outcome
    old, new = left["weights"], right["weights"]
    if old.get("sha256") != new.get("sha256"):
        steps = f"{old.get('step')} and {new.get('step')}"
        yield f"weights: other bytes (kept after step {steps})"
    for name in left["metrics"] | right["metrics"]:
        if left["metrics"].get(name) != right["metrics"].get(name):
            yield f"{name}: {left['metrics'].get(name)} -> {right['metrics'].get(name)}"
    if left["predictions"] != right["predictions"]:
        yield f"predictions: {_predictions(a.folder, b.folder)}"


def _predictions(old: Path, new: Path) -> str:
    try:
        left, right = _rows(old), _rows(new)
    except (OSError, ValueError, KeyError, csv.Error, Refusal):
        return "other bytes (the files are not here, or not what they were)"
    shared = [key for key in left if key in right]
    other = [key for key in shared if left[key] != right[key]]
    description = f"{len(other)} of {len(shared)} rows have other bits"
    labels = [(key, left[key].get("label"), right[key].get("label")) for key in other]
    moved = [f"{key} {one} -> {two}" for key, one, two in labels if one != two]
    more = ", ..." if len(moved) > 5 else ""
    return (
        f"{description}, {len(moved)} another label ({', '.join(moved[:5])}{more})"
        if moved
        else description
    )


def _rows(run: Path) -> dict[str, dict[str, str]]:
    if (path := regular(run, "predictions.csv")) is None:
        raise FileNotFoundError(run / "predictions.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}
