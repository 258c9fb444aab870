"""Checkpoints: tensors as safetensors, the rest as JSON, a digest for each, whole or not at all.

A checkpoint holds no generator state: randomness is a function of the step number. It names the
run and the recipe that made it, and is used by no other. Saving stops the loop for as long as
copying the state takes; hashing and writing happen in a thread.
"""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save

from saigen.arrays import at_work
from saigen.digest import digest_bytes, digest_value
from saigen.documents import (
    MEMORY_BYTES,
    Count,
    Document,
    Name,
    RunId,
    Sha256,
    conform,
    read_bytes,
    read_document,
    reason,
    refuse_unbounded,
)
from saigen.errors import Failure, Refusal
from saigen.files import end_replacements, json_bytes, replacing, write_json, write_whole

SCHEMA = 2
_TENSORS = "state.safetensors"
_VALUES = "checkpoint.json"
# A few values for each tensor of a state, and as deep as what a project keeps in an optimizer.
# Twice as much is read as is written, which has a frame.
_LIMIT = 256 << 20  # bytes
_HELD, _DEPTH = 2_000_000, 150  # these bound a document


class Body(Document):
    """The document checkpoint.json."""

    schema_: Annotated[Literal[2], Field(alias="schema")]
    step: Count
    values: dict[str, Any]
    rows: dict[Name, Name]
    run: RunId
    recipe: Sha256
    tensors_sha256: Sha256
    digest: Sha256


@dataclass(frozen=True)
class State:
    """All that a run needs to go on: tensors by name, and JSON values."""

    step: int
    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]
    rows: dict[str, str]  # what stood in the files of rows: name -> digest


class Checkpoints:
    """The checkpoints of one run, newest last; `kept` of them stay on disk."""

    def __init__(self, run: Path, recipe: str, *, kept: int, say: Callable[[str], None]) -> None:
        self.folder = run / "checkpoints"
        self._owner = {"run": run.resolve().name, "recipe": recipe}
        self._kept = kept
        self._say = say
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        values: dict[str, Any],
        *,
        rows: dict[str, str],
        first: Callable[[], None],
    ) -> None:
        """Copy the state and write it behind the loop's back, after `first` was called there.

        Raises Failure if the checkpoint before could not be written.
        """
        self.wait()
        form = torch.contiguous_format
        copies = {name: t.detach().clone(memory_format=form).cpu() for name, t in tensors.items()}
        self._pending = self._writer.submit(self._write, State(step, copies, values, rows), first)

    def wait(self) -> None:
        """Wait until what was saved is on disk."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        try:
            pending.result()
        except OSError as error:
            raise Failure(
                "a checkpoint could not be written",
                where=str(self.folder),
                expected="a folder with room that this user may write to",
                got=str(error),
                fix="make room or mend the rights, then start again: the run continues from the "
                "newest whole checkpoint",
            ) from error

    def close(self) -> None:
        """Wait for the last write and end the thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def newest(self) -> State | None:
        """The newest checkpoint that is whole; one that is torn or altered is named and skipped.

        Raises Refusal if it is another run's.
        """
        end_replacements(self.folder)
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            found = _read(folder)
            if not isinstance(found, str):
                _refuse_other(folder, self._owner, found[1])
                return found[0]
            self._say(f"checkpoint {folder} is not whole ({found}); using the one before it")
        return None

    def _write(self, state: State, first: Callable[[], None]) -> None:
        first()
        self.folder.mkdir(exist_ok=True)  # not its parents: a run folder that is gone stays gone
        content = save(state.tensors)
        body = {
            "schema": SCHEMA,
            "step": state.step,
            "values": state.values,
            "rows": state.rows,
            **self._owner,
            "tensors_sha256": digest_bytes(content),
        }
        body["digest"] = digest_value(body)
        conform(body, Body)
        with replacing(self.folder / f"step-{state.step:012d}") as new:
            write_whole(new / _TENSORS, content)
            write_json(new / _VALUES, body)
        for old in sorted(self.folder.glob("step-*"))[: -self._kept]:
            shutil.rmtree(old, ignore_errors=True)


def refuse_unheld(values: Mapping[str, Any]) -> None:
    """Raise Refusal on the values of a state that no checkpoint could be read with."""
    try:
        refuse_unbounded(dict(values), values=_HELD, depth=_DEPTH)
        got = "" if 2 * len(json_bytes(values)) < _LIMIT else f"more than {_LIMIT // 2} bytes"
    except ValueError as error:
        got = reason(error)
    if got:
        raise Refusal(
            "the state of model or optimizer is more than a checkpoint can hold",
            where=_VALUES,
            expected=f"at most {_HELD} values beside the tensors, {_DEPTH} deep",
            got=got,
            fix="keep it in tensors, or flatter",
        )


def taking_up(state: State, run: Path | None) -> AbstractContextManager[None]:
    """Around what puts a state back: whatever does not fit is a Refusal with the checkpoint."""
    folder = (run or Path()) / "checkpoints" / f"step-{state.step:012d}"
    return at_work("the checkpoint does not fit the run", str(folder), _without(folder))


def adopt(folder: Path, run: Path, recipe: str) -> None:
    """Make a copied checkpoint one of `run`, which repeats the recipe that it was made by."""
    try:
        body = _body(folder)
    except Refusal:
        return
    _refuse_other(folder, {"recipe": recipe}, body)
    body = {key: value for key, value in body.items() if key != "digest"} | {"run": run.name}
    write_json(folder / _VALUES, body | {"digest": digest_value(body)})


def _without(folder: Path) -> str:
    return f"remove {folder}: the run continues from the checkpoint before it, or starts anew"


def _refuse_other(folder: Path, expected: Mapping[str, str], owner: Mapping[str, Any]) -> None:
    for key, value in expected.items():
        if owner[key] != value:
            raise Refusal(
                "a checkpoint was made by another run",
                where=str(folder),
                expected=f"{key} {value[:18]}",
                got=f"{key} {owner[key][:18]}",
                fix=_without(folder),
            )


def _body(folder: Path) -> dict[str, Any]:
    """What checkpoint.json says, if it is whole and of this folder. Raises Refusal."""
    path = folder / _VALUES
    body: dict[str, Any] = read_document(
        path,
        Body,
        name="checkpoint",
        expected="what a training wrote",
        fix=_without(folder),
        limit=_LIMIT,
        values=2 * _HELD,
        depth=2 * _DEPTH,
    )
    content = {key: value for key, value in body.items() if key != "digest"}
    named = f"step-{body['step']:012d}"
    got = "" if digest_value(content) == body["digest"] else f"{_VALUES} was altered"
    got = got or ("" if folder.name == named else f"it holds step {body['step']}")
    if got:
        raise Refusal(
            "this is not a whole checkpoint",
            where=str(path),
            expected="the digest and the step that it was written with",
            got=got,
            fix=_without(folder),
        )
    return body


def _read(folder: Path) -> tuple[State, dict[str, Any]] | str:
    """The state in a folder with all that its document says; or in a few words what is wrong."""
    try:
        body = _body(folder)
        content = read_bytes(folder / _TENSORS, MEMORY_BYTES)
        if digest_bytes(content) != body["tensors_sha256"]:
            return f"{_TENSORS} was altered"
        return State(body["step"], load(content), body["values"], body["rows"]), body
    except Refusal as refusal:
        return refusal.got
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        return f"{_TENSORS}: {reason(error)}"
