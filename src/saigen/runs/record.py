"""The record of a run: one file that says what went in, what came out, and how it went.

`record.json` is rewritten whole at each stage of a run's life; `complete` becomes true in the
last of these writes, so its presence means that the run finished. The JSON Schema of this file
is published as docs/schemas/record-2.json.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from saigen.config.schema import METADATA
from saigen.digest import digest_tree, digest_value
from saigen.documents import (
    DOCUMENT_BYTES,
    Count,
    Document,
    GitCommit,
    Line,
    Name,
    Number,
    Open,
    RelativePath,
    RunId,
    Sha256,
    Text,
    Tree,
    conform,
    parse_json,
    read_bytes,
    read_document,
    reason,
)
from saigen.errors import Refusal
from saigen.files import write_json
from saigen.observing.observed import Observed
from saigen.runs.layers import GIVEN, Recipe, WatchedLayers
from saigen.secret_scan import redact_value

SCHEMA = 2
NAME = "record.json"
# JSON has no word for these numbers; `float` reads them all
Metric = Number | Literal["NaN", "Infinity", "-Infinity"]


class Weights(Open):
    """The weights that were kept."""

    sha256: Sha256
    initial: Sha256 = Field(description="before step 0")
    step: Count = Field(description="after which they were kept")


class Predictions(Open):
    """predictions.csv."""

    sha256: Sha256
    rows: Count


class TraceEntry(Open):
    """trace.bin."""

    sha256: Sha256
    steps: Count


class Outcome(Document):
    """Everything that comes out. A part is null until its stage has run."""

    digest: Sha256 | None = Field(description="over the four parts; null until all are there")
    weights: Weights | None = Field(description="sha256 of each tensor file, initial, final")
    metrics: dict[Name, Metric] | None = Field(description="on the frozen test split")
    predictions: Predictions | None = Field(description="sha256 and rows of predictions.csv")
    trace: TraceEntry | None = Field(description="sha256 and steps of the trace")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.digest is not None and None in dict(self).values():
            raise ValueError("it has a digest, and a part is missing")
        return self


class GitState(Open):
    """Where the source stood in git's history."""

    commit: GitCommit | None
    branch: Name | Literal[""] | None
    changed: dict[RelativePath, Sha256 | Literal[""]] = Field(description="empty: it is gone")
    untracked: dict[RelativePath, Sha256]
    links: dict[RelativePath, Text] = Field(description="where each leads")
    left_out: dict[Name, Text] = Field(description="what was not kept, and why")
    patch_sha256: Sha256 | None = None


class Training(Open):
    """How the training went."""

    steps: Count
    processes: Count


class Imported(Document):
    """What the process imported."""

    files: list[Name]
    packages: list[Name]
    beyond: list[Name] = Field(default=[], description="of the files those outside the code layer")


class Machine(Open):
    """Where it ran."""

    cpu_model: Text


class Ending(Document):
    """How a run that is not complete ended."""

    what: Text
    why: Text


class Started(Document):
    """How the script of a watched loop was started."""

    script: RelativePath | None = Field(description="null: it cannot be started again")
    module: Name | None = Field(description="by `python -m`; null: by its path")
    paths: list[Text] = Field(description="folders of the project that modules were looked for in")
    number: Count = Field(description="of the watches of one process this is which, from 0")


class Generators(Document):
    """Where the generators of Python and NumPy stood around a watched loop."""

    before: dict[Name, Text]
    after: dict[Name, Text] = Field(default={})


class Metadata(Open):
    """When, where, how long: in no digest."""

    started_at: Name
    overrides: list[Text]
    machine: Machine
    git: GitState
    config: dict[Literal[METADATA], Any]  # type: ignore[valid-type]
    continued: list[Tree]
    training: Training | None = None
    imported: Imported | None = None
    other_source: dict[RelativePath, Sha256] = Field(
        default={}, description="what of src/ is not in the code layer"
    )
    observed: list[Observed] | None = Field(
        default=None, description="what the project took in from outside of the recipe"
    )
    prepared_in: Tree = Field(default={}, description="the environment of the preparation")
    libraries: dict[Name, Line] = Field(
        default={}, description="shared libraries of the system that were loaded, by digest"
    )
    failure: Ending | None = Field(default=None, description="of a run that ended badly")
    started: Started | None = Field(default=None, description="of a watched loop")
    outside: dict[Name, Text] = Field(
        default={}, description="of a watched loop: where declared data lies, if elsewhere"
    )
    generators: Generators | None = Field(default=None, description="of a watched loop")


class ClaimEntry(Open):
    """How one claim stood its trial."""

    result: Literal["held", "broken", "not tried", "not made", "fact"]
    steps: Count | None = Field(description="of the trainings; null: all")


class Record(Document):
    """Recipe, outcome, metadata and claims of one run."""

    schema_: Literal[2] = Field(alias="schema")
    run: RunId = Field(description="the run's id: the head of its recipe digest, and a number")
    complete: bool = Field(description="true only after everything else was written")
    recipe: Recipe
    outcome: Outcome
    files: dict[RelativePath, Sha256] = Field(
        description="sha256 of every other file of the run folder"
    )
    metadata: Metadata
    claims: dict[Name, ClaimEntry] = Field(
        description="what was proven for this recipe, with evidence"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.complete and self.outcome.digest is None:
            raise ValueError("it is complete, and has no outcome")
        is_watched = isinstance(self.recipe.layers, WatchedLayers)
        if is_watched and not (self.metadata.started and self.metadata.generators):
            raise ValueError("it is of a watched loop, and does not say how that was started")
        return self


def new_record(run: str, recipe: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    """A record as it stands before step 0."""
    return {
        "schema": SCHEMA,
        "run": run,
        "complete": False,
        "recipe": recipe,
        "outcome": dict.fromkeys(Outcome.model_fields),
        "files": {},
        "metadata": metadata,
        "claims": {},
    }


def json_metrics(metrics: Mapping[str, float]) -> dict[str, Metric]:
    """Metrics as a record holds them: what is not finite by its name."""

    def name(value: float) -> Metric:
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

    return {key: v if math.isfinite(v) else name(v) for key, v in metrics.items()}


def write_failure(folder: Path, what: str, why: str) -> None:
    """Say in the record of a run that is not complete what ended it."""
    record = read_record(folder)
    if not record["complete"]:
        record["metadata"]["failure"] = {"what": what[:1000], "why": why[:20_000]}
        write_record(folder, record)


def outcome_digest(outcome: dict[str, Any]) -> str | None:
    """One digest over weights, metrics, predictions and trace; None while one is missing."""
    parts = {name: value for name, value in outcome.items() if name != "digest"}
    if None in parts.values():
        return None
    return digest_tree({name: digest_value(value) for name, value in parts.items()})


def is_proven_by(record: dict[str, Any], verification: Path) -> bool:
    """Whether a file that `verify` wrote is about the recipe of a record."""
    try:
        proof = parse_json(read_bytes(verification, DOCUMENT_BYTES))
        return repeats(record["recipe"]["layers"], proof["layers"], proof["config"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def repeats(
    layers: Mapping[str, Any], digests: Mapping[str, str], config: Mapping[str, Any]
) -> bool:
    """Whether layers are those of a recipe with these digests and config; only the length may
    differ.
    """

    def timeless(values: Mapping[str, Any]) -> dict[str, Any]:
        if GIVEN in values:
            return dict(values)
        return {**values, "trainer": {**values["trainer"], "max_steps": None}}

    same = all(layers[n]["digest"] == digest for n, digest in digests.items() if n != "config")
    return same and timeless(layers["config"]["values"]) == timeless(config)


def is_watched(record: Mapping[str, Any]) -> bool:
    """Whether a run is of a loop that was watched, and not of the template's."""
    return GIVEN in record["recipe"]["layers"]["config"]["values"]


def promises_bits(record: dict[str, Any]) -> bool:
    """Whether the reproducibility of a run promises bits; `statistical` promises a distribution,
    and a loop that is only watched nothing.
    """
    values = record["recipe"]["layers"]["config"]["values"]
    return not is_watched(record) and bool(values["reproducibility"]["name"] != "statistical")


def refuse_unwritable(record: dict[str, Any]) -> None:
    """Raise Refusal on a record that nobody could read again."""
    try:
        conform(record, Record)
    except ValidationError as error:
        raise Refusal(
            "the record of the run cannot be written",
            where=str(record["run"]),
            expected=f"a record of schema {SCHEMA}",
            got=reason(error),
            fix="mend what is named: a file of src/ with a plain name, a metric with a short one",
        ) from error


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Check a record against its schema and write it, whole or not at all.

    No secret gets into its metadata; one line says what was left out.
    """
    record["metadata"], found = redact_value(record["metadata"])
    if found:
        print(
            f"note: left out of the record of {record['run']}: {', '.join(found)}", file=sys.stderr
        )
    refuse_unwritable(record)
    write_json(folder / NAME, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record, given the file or its run folder. Raises Refusal if it is not one."""
    record: dict[str, Any] = read_document(
        path / NAME if path.is_dir() else path,
        Record,
        name="record",
        expected=f"a record of schema {SCHEMA}",
        fix="take the run's record from the remote, or make the run again",
    )
    return record
