"""The trace: one row a step, in causal order: sample ids, loss, gradients, weights, state.

It can be read while it is written (`trace_file.py`), and holds nothing of time or place: equal
runs have equal bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saigen.digest import digest_file
from saigen.refusal import Failure
from saigen.training.fingerprint import Fingerprint
from saigen.training.sums import Sums
from saigen.training.tensor_trace import TensorTrace
from saigen.training.trace_file import HEADER_BYTES, NAME, ROW, SCHEMA, read_trace

_CHAINED = ROW.itemsize - 16  # saigen: constant, because a row ends with 16 bytes of chain
_COLUMNS = ("gradients", "weights", "optimizer")
_NOTHING = (0, 0, 0)  # the fingerprint of nothing


class Trace:
    """Writes the trace of one run; `flush_steps` rows wait in memory at most.

    The fingerprints take signs by turns, gradients in even steps and weights in odd ones, and of
    the optimizer's state one kind of tensor a step: half of what all of it would cost. What one
    step's turn cannot see the next one's does.
    """

    def __init__(
        self,
        run: Path,
        *,
        gradients: Fingerprint,
        weights: Fingerprint,
        sums: Sums,
        flush_steps: int,
        resumed_at: int,
        # saigen: constant, because tracking.trace_depth says who passes one
        in_depth: TensorTrace | None = None,
    ) -> None:
        """Take the memory that is traced; rows from step `resumed_at` on are cut off."""
        self.path = run / NAME
        self._gradients, self._weights = gradients, weights
        self._state: list[Fingerprint] = []
        self._sums, self._size, device = sums, flush_steps, sums.pair.device
        self._in_depth = in_depth
        self._rows: list[tuple[Any, ...]] = []
        self._on_host = device.type == "cpu"
        shape = (0 if self._on_host else flush_steps, len(_COLUMNS))
        self._lanes = torch.zeros(shape, dtype=torch.int64, device=device)
        self._losses = torch.zeros((shape[0], 2), dtype=torch.float64, device=device)
        self._chain = _cut(self.path, resumed_at)
        self._file = self.path.open("ab")

    def add(self, step: int, samples: np.ndarray, optimizer: torch.optim.Optimizer) -> None:
        """Take the row of a step; nothing waits for the device.

        Raises Failure when rows are written and a loss among them is not finite.
        """
        if self._in_depth:
            self._in_depth.add(step)
        if not self._rows:
            self._state = _state(optimizer)  # anew: an optimizer may put other tensors there
        ids = int.from_bytes(hashlib.blake2b(samples.data, digest_size=8).digest(), "little")
        odd = bool(step % 2)
        parts = [(self._gradients, not odd), (self._weights, odd)]
        if self._state:
            parts.append((self._state[step % len(self._state)], False))
        if self._on_host:
            found = [fingerprint.read(signs=signs) for fingerprint, signs in parts]
            self._rows.append((step, ids, self._sums.loss, *found, *_NOTHING[len(found) :], b""))
        else:
            place = len(self._rows)
            for column, (fingerprint, signs) in enumerate(parts):
                self._lanes[place, column] = fingerprint.on_device(signs=signs)
            self._losses[place] = self._sums.pair
            self._rows.append((step, ids, 0.0, *_NOTHING, b""))
        if len(self._rows) == self._size:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._in_depth:
            self._in_depth.flush()
        rows = np.array(self._rows, ROW)
        if not self._on_host and len(rows):
            lanes = self._lanes[: len(rows)].cpu().numpy().view(np.uint64)
            losses = self._losses[: len(rows)].cpu().numpy()
            rows["loss"] = losses[:, 0] / losses[:, 1]
            for column, name in enumerate(_COLUMNS):
                rows[name] = lanes[:, column]
        for row in rows:
            content = row.tobytes()[:_CHAINED]
            self._chain = hashlib.blake2b(self._chain + content, digest_size=16).digest()
            row["chain"] = self._chain
        self._file.write(rows.tobytes())
        self._file.flush()
        self._rows.clear()
        finite = np.isfinite(rows["loss"])
        if not finite.all():
            self._file.close()
            _refuse_loss(rows[int(np.argmin(finite))])

    def sync(self) -> None:
        """Wait until what was flushed is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> dict[str, Any]:
        """Write what waits; returns the trace's part of the outcome."""
        self.flush()
        self.sync()
        self._file.close()
        if self._in_depth:
            self._in_depth.close()
        steps = (self.path.stat().st_size - HEADER_BYTES) // ROW.itemsize
        return {"sha256": digest_file(self.path), "steps": steps}


def _cut(path: Path, steps: int) -> bytes:
    """Begin a trace, or cut one after `steps` rows; returns the chain so far."""
    if steps == 0:
        head = json.dumps({"schema": SCHEMA, "row": _described()}).encode()
        path.write_bytes(head.ljust(HEADER_BYTES - 1) + b"\n")
        return b"\0" * 16  # saigen: constant, because a link of the chain has 16 bytes
    rows = read_trace(path.parent) if path.is_file() else np.zeros(0, ROW)
    if len(rows) < steps:
        raise Failure(
            "the trace is shorter than the checkpoint it belongs to",
            where=str(path),
            expected=f"at least {steps} rows",
            got=str(len(rows)),
            fix="remove the run folder and start again",
        )
    chain: bytes = rows["chain"][steps - 1].tobytes()
    os.truncate(path, HEADER_BYTES + steps * ROW.itemsize)
    return chain


def _described() -> Mapping[str, str]:
    return {name: str(ROW[name]) for name in ROW.names or ()}


def _state(optimizer: torch.optim.Optimizer) -> list[Fingerprint]:
    """Of each kind of state (exp_avg, ...) one fingerprint, of its tensors of whole words, in the
    order of the optimizer's parameters.
    """
    kinds: dict[str, list[torch.Tensor]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for kind, value in optimizer.state.get(parameter, {}).items():
                # saigen: constant, because a word has 8 bytes
                if torch.is_tensor(value) and value.numel() * value.itemsize % 8 == 0:
                    kinds.setdefault(kind, []).append(value)
    return [Fingerprint(kinds[kind]) for kind in sorted(kinds)]


def _refuse_loss(row: Any) -> None:
    raise Failure(
        "the loss is not a number any more",
        where=f"step {row['step']}",
        expected="a finite loss",
        got=str(row["loss"]),
        fix="lower optimizer.lr, set trainer.clip_gradient_norm, or look for NaN in the data",
    )
