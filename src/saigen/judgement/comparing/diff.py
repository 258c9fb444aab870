"""Why do two runs differ? Layer by layer in causal order, then the verdict."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from saigen.judgement.comparing import environments, sources, tables, values
from saigen.judgement.comparing.difference import Difference
from saigen.judgement.comparing.divergence import divergence
from saigen.judgement.comparing.verdict import Divergence, Verdict, verdict
from saigen.judgement.run import Run
from saigen.recipe.layer import LAYERS
from saigen.records.document import Document
from saigen.refusal import Refusal


class Side(Document):
    """One of the two runs."""

    run: str
    folder: str
    started_at: str
    recipe: str
    outcome: str
    metrics: dict[str, float]


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

    @property
    def exit_code(self) -> int:
        """0 the same outcome, 1 another."""
        return 0 if self.same_outcome else 1


def diff(a: Run, b: Run) -> Diff:
    """Compare two runs. Raises Refusal if one of them has no outcome."""
    for run in (a, b):
        if run.outcome["digest"] is None:
            raise Refusal(
                "a run without an outcome cannot be compared",
                where=str(run.folder),
                expected="a complete run",
                got="training or evaluation did not end",
                fix="the same command that made it continues it",
            )
    differences = list(_differences(a, b))
    parted = divergence(a, b)
    same = a.outcome["digest"] == b.outcome["digest"]
    recipes = [run.record["recipe"]["digest"] for run in (a, b)]
    names = (a.name, b.name) if a.name != b.name else (str(a.folder), str(b.folder))
    return Diff(
        a=_side(a),
        b=_side(b),
        incomparable=tables.evaluation_mismatch(a, b),
        same_recipe=recipes[0] == recipes[1],
        same_outcome=same,
        layers={name: a.layer(name)["digest"] == b.layer(name)["digest"] for name in LAYERS},
        differences=differences,
        outcome=list(_outcome(a, b)),
        trace=parted,
        verdict=verdict(
            names, differences, parted, same_recipe=recipes[0] == recipes[1], same_outcome=same
        ),
    )


def _differences(a: Run, b: Run) -> Iterator[Difference]:
    found = [*values.config(a, b), *values.randomness(a, b)]
    keys = {d.name: d for d in found}
    yield from tables.data(a, b)
    yield from (d for d in found if d.layer == "config")
    yield from sources.code(a, b)
    yield from environments.environment(a, b, keys)
    yield from (d for d in found if d.layer == "randomness")
    yield from values.distribution(a, b, keys)
    yield from values.circumstances(a, b)


def _side(run: Run) -> Side:
    return Side(
        run=run.name,
        folder=str(run.folder),
        started_at=run.record["circumstances"]["started_at"],
        recipe=run.record["recipe"]["digest"],
        outcome=run.outcome["digest"],
        metrics=run.outcome["metrics"],
    )


def _outcome(a: Run, b: Run) -> Iterator[str]:
    left, right = a.outcome, b.outcome
    if left["weights"].get("sha256") != right["weights"].get("sha256"):
        steps = [side["weights"].get("step") for side in (left, right)]
        yield f"weights: other bytes (kept after step {steps[0]} and {steps[1]})"
    for name in [*left["metrics"], *(n for n in right["metrics"] if n not in left["metrics"])]:
        numbers = [side["metrics"].get(name) for side in (left, right)]
        if numbers[0] != numbers[1]:
            yield f"{name}: {numbers[0]} -> {numbers[1]}"
    if left["predictions"] != right["predictions"]:
        yield _predictions(a.folder / "predictions.csv", b.folder / "predictions.csv")


def _predictions(old: Path, new: Path) -> str:
    if not (old.is_file() and new.is_file()):
        return "predictions: other bytes (the files are not here)"
    rows = [_rows(path) for path in (old, new)]
    shared = [key for key in rows[0] if key in rows[1]]
    other = [key for key in shared if rows[0][key] != rows[1][key]]
    labels = [key for key in other if rows[0][key].get("label") != rows[1][key].get("label")]
    told = f"predictions: {len(other)} of {len(shared)} rows have other bits"
    if labels:
        shown = ", ".join(
            f"{key} {rows[0][key]['label']} -> {rows[1][key]['label']}" for key in labels[:5]
        )
        told += f", {len(labels)} another label ({shown}{', ...' if len(labels) > 5 else ''})"
    return told


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return {row["id"]: row for row in table}
