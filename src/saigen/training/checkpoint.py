"""Checkpoints: tensors as safetensors, the rest as JSON, a digest for each, whole or not at all.

A checkpoint holds no generator state: randomness is a function of the step number. It names the
run and the recipe that made it, and is used by no other. Saving stops the loop for as long as
copying the state takes; hashing and writing happen in a thread.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from saigen.digest import digest_bytes, digest_value
from saigen.files import replacing, write_json, write_whole
from saigen.refusal import Failure, Refusal

SCHEMA = 2
_TENSORS = "state.safetensors"
_VALUES = "checkpoint.json"


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
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            state, owner = _read(folder)
            if isinstance(state, State):
                _refuse_other(folder, self._owner, owner)
                return state
            self._say(f"checkpoint {folder} is not whole ({state}); using the one before it")
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
        with replacing(self.folder / f"step-{state.step:012d}") as new:
            write_whole(new / _TENSORS, content)
            write_json(new / _VALUES, body | {"digest": digest_value(body)})
        for old in sorted(self.folder.glob("step-*"))[: -self._kept]:
            shutil.rmtree(old, ignore_errors=True)


def adopt(folder: Path, run: Path, recipe: str) -> None:
    """Make a copied checkpoint one of `run`, which repeats the recipe that it was made by."""
    state, owner = _read(folder)
    if isinstance(state, State):
        _refuse_other(folder, {"recipe": recipe}, owner)
        body = json.loads((folder / _VALUES).read_text(encoding="utf-8"))
        body = {key: value for key, value in body.items() if key != "digest"}
        body["run"] = run.name
        write_json(folder / _VALUES, body | {"digest": digest_value(body)})


def _refuse_other(folder: Path, expected: Mapping[str, str], owner: Mapping[str, str]) -> None:
    for key, value in expected.items():
        if owner[key] != value:
            raise Refusal(
                "a checkpoint was made by another run",
                where=str(folder),
                expected=f"{key} {value[:18]}",
                got=f"{key} {owner[key][:18]}",
                fix=f"remove {folder}: the run continues from the checkpoint before it, or starts "
                "anew",
            )


def _read(folder: Path) -> tuple[State | str, dict[str, str]]:
    """The state in a folder, or in a few words what is wrong with it; and whose it is."""
    try:
        body = json.loads((folder / _VALUES).read_text(encoding="utf-8"))
        told = body.pop("digest")
        if digest_value(body) != told or body["schema"] != SCHEMA:
            return f"{_VALUES} was altered", {}
        content = (folder / _TENSORS).read_bytes()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        return f"{type(error).__name__}: {error}", {}
    if digest_bytes(content) != body["tensors_sha256"]:
        return f"{_TENSORS} was altered", {}
    if folder.name != f"step-{body['step']:012d}":
        return f"it holds step {body['step']}", {}
    state = State(body["step"], load(content), body["values"], body["rows"])
    return state, {"run": body["run"], "recipe": body["recipe"]}
