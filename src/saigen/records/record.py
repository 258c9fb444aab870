"""The record of a run: one file that says what went in, what came out, and how it went.

`record.json` is rewritten whole at each stage of a run's life; `complete` becomes true in the
last of these writes, so its presence means that the run finished. The JSON Schema of this file
is published as docs/schemas/record-2.json. Records of older schemas are read as if they were of
this one; what they did not hold is empty.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saigen.digest import digest_tree, digest_value
from saigen.files import write_json
from saigen.refusal import Refusal

SCHEMA = 2
NAME = "record.json"

Sha256 = str


class _Open(BaseModel):
    """Known keys have types; more keys may come with later versions."""

    model_config = ConfigDict(frozen=True, extra="allow")


class LayerEntry(_Open):
    """One layer of the recipe: its digest, and all that entered it."""

    digest: Sha256


class Layers(BaseModel):
    """The six layers, in the order in which one looks for a difference."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    data: LayerEntry
    config: LayerEntry
    code: LayerEntry
    environment: LayerEntry
    randomness: LayerEntry
    distribution: LayerEntry


class Recipe(BaseModel):
    """Everything that goes into a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Sha256
    layers: Layers


class Outcome(BaseModel):
    """Everything that comes out. A part is null until its stage has run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Sha256 | None = Field(description="over the four parts; null until all are there")
    weights: dict[str, Any] | None = Field(description="sha256 of each tensor file, initial, final")
    metrics: dict[str, float] | None = Field(description="on the frozen evaluation split")
    predictions: dict[str, Any] | None = Field(description="sha256 and rows of predictions.csv")
    trace: dict[str, Any] | None = Field(description="sha256 and steps of the trace")


class Record(BaseModel):
    """Recipe, outcome, circumstances and claims of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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


def outcome_digest(outcome: dict[str, Any]) -> str | None:
    """One digest over weights, metrics, predictions and trace; None while one is missing."""
    parts = ("weights", "metrics", "predictions", "trace")
    if any(outcome[part] is None for part in parts):
        return None
    return digest_tree({part: digest_value(outcome[part]) for part in parts})


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Check a record against its schema and write it, whole or not at all."""
    Record.model_validate(record)
    write_json(folder / NAME, record)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record, given the file or its run folder. Raises Refusal if it is not one."""
    file = path / NAME if path.is_dir() else path
    try:
        record = _as_newest(json.loads(file.read_text(encoding="utf-8")))
        Record.model_validate(record)
    except (OSError, ValueError) as error:
        raise Refusal(
            "this is not a readable record",
            where=str(file),
            expected=f"a record of schema 1 to {SCHEMA}",
            got=_first_line(error),
            fix="take the run's record from the remote, or make the run again",
        ) from error
    return record


def _as_newest(record: Any) -> dict[str, Any]:
    """A record of an older schema in the form of the newest one."""
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  # refused by the caller, with the path
    if record.get("schema") == 1:  # before the files of a run were listed in its record
        return record | {"schema": 2, "files": {}}
    return record


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0]
