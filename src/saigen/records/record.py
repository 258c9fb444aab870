"""The record of a run: one file that says what went in, what came out, and how it went.

`record.json` is rewritten whole at each stage of a run's life; `complete` becomes true in the
last of these writes, so its presence means that the run finished. The JSON Schema of this file
is published as docs/schemas/record-2.json. Records of older schemas are read as if they were of
this one; what they did not hold is empty.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saigen.digest import digest_tree, digest_value
from saigen.files import write_json
from saigen.refusal import Refusal
from saigen.secret_scan import redact_value

SCHEMA = 2
NAME = "record.json"

Sha256 = str
# JSON has no word for these numbers; `float` reads them all
Metric = float | Literal["NaN", "Infinity", "-Infinity"]


class Document(BaseModel):
    """What is written or answered, and published in docs/schemas/: frozen, no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def json_text(self) -> str:
        """The document as a verb gives it under `--json`; the first key names the schema."""
        return self.model_dump_json(indent=2, by_alias=True)


class LayerEntry(Document):
    """One layer of the recipe: its digest, and all that entered it."""

    model_config = ConfigDict(extra="allow")
    digest: Sha256


class Layers(Document):
    """The six layers, in the order in which one looks for a difference."""

    data: LayerEntry
    config: LayerEntry
    code: LayerEntry
    environment: LayerEntry
    randomness: LayerEntry
    distribution: LayerEntry


class Recipe(Document):
    """Everything that goes into a run."""

    digest: Sha256
    layers: Layers


class Outcome(Document):
    """Everything that comes out. A part is null until its stage has run."""

    digest: Sha256 | None = Field(description="over the four parts; null until all are there")
    weights: dict[str, Any] | None = Field(description="sha256 of each tensor file, initial, final")
    metrics: dict[str, Metric] | None = Field(description="on the frozen evaluation split")
    predictions: dict[str, Any] | None = Field(description="sha256 and rows of predictions.csv")
    trace: dict[str, Any] | None = Field(description="sha256 and steps of the trace")


class Record(Document):
    """Recipe, outcome, circumstances and claims of one run."""

    schema_: Literal[2] = Field(alias="schema")
    run: str = Field(description="the run's id: the head of its recipe digest, and a number")
    complete: bool = Field(description="true only after everything else was written")
    recipe: Recipe
    outcome: Outcome
    files: dict[str, Sha256] = Field(description="sha256 of every other file of the run folder")
    circumstances: dict[str, Any] = Field(description="when, where, how long: in no digest")
    claims: dict[str, Any] = Field(description="what was proven for this recipe, with evidence")


def new_record(run: str, recipe: dict[str, Any], circumstances: dict[str, Any]) -> dict[str, Any]:
    """A record as it stands before step 0."""
    return {
        "schema": SCHEMA,
        "run": run,
        "complete": False,
        "recipe": recipe,
        "outcome": dict.fromkeys(Outcome.model_fields),
        "files": {},
        "circumstances": circumstances,
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
        record["circumstances"]["failure"] = {"what": what, "why": why}
        write_record(folder, record)


def outcome_digest(outcome: dict[str, Any]) -> str | None:
    """One digest over weights, metrics, predictions and trace; None while one is missing."""
    parts = {name: value for name, value in outcome.items() if name != "digest"}
    if None in parts.values():
        return None
    return digest_tree({name: digest_value(value) for name, value in parts.items()})


def promises_bits(record: dict[str, Any]) -> bool:
    """Whether the agreement of a run promises bits; `statistical` promises a distribution."""
    values = record["recipe"]["layers"]["config"]["values"]
    return bool(values["agreement"]["name"] != "statistical")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Check a record against its schema and write it, whole or not at all.

    No secret gets into its circumstances; one line says what was left out.
    """
    record["circumstances"], found = redact_value(record["circumstances"])
    if found:
        print(
            f"note: left out of the record of {record['run']}: {', '.join(found)}", file=sys.stderr
        )
    Record.model_validate(record)
    write_json(folder / NAME, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record, given the file or its run folder. Raises Refusal if it is not one."""
    file = path / NAME if path.is_dir() else path
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(record, dict) and record.get("schema") == 1:
            record |= {"schema": SCHEMA, "files": {}}  # it did not list the files of its run
        Record.model_validate(record)
    except (OSError, ValueError) as error:
        got = str(error).splitlines()[0]
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            got = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise Refusal(
            "this is not a readable record",
            where=str(file),
            expected=f"a record of schema 1 to {SCHEMA}",
            got=got,
            fix="take the run's record from the remote, or make the run again",
        ) from error
    return record
