"""The trace: one row a step, in causal order: sample ids, loss, gradients, weights, state.

It can be read while it is written (`trace_file.py`), and holds nothing of time or place: equal
runs have equal bytes.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saigen.digest import digest_file
from saigen.errors import Failure
from saigen.training.fingerprint import Fingerprint
from saigen.training.flat import FlatModel
from saigen.training.state_trace import StateTrace
from saigen.training.step_totals import StepTotals, finite
from saigen.training.tensor_trace import TensorTrace
from saigen.training.trace_file import (
    HEADER_BYTES,
    NAME,
    ROW,
    TENSORS,
    chained,
    header,
    link,
    read_trace,
    refuse_altered,
)

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
        flat: FlatModel,
        totals: StepTotals,
        state: StateTrace,
        *,
        flush_steps: int,
        resumed_at: int,
        expected: Mapping[str, str],
        in_depth: bool,
    ) -> None:
        """Take the memory that is traced; rows from step `resumed_at` on are cut off, and those
        before it must be those of `expected`, the `digests` of then.
        """
        self.path = run / NAME
        self._gradients = Fingerprint(flat.gradients, salt=flat.salt)
        self._weights = Fingerprint(flat.weights, salt=flat.salt)
        self._state = state
        self._totals, self._size = totals, flush_steps
        self._in_depth = (
            TensorTrace(run, flat, resumed_at=resumed_at, expected=expected.get(TENSORS))
            if in_depth
            else None
        )
        self._rows: list[tuple[int, int, Any, list[Any]]] = []  # numbers, or tensors on a device
        self._chain = _cut(self.path, resumed_at, expected.get(NAME))
        self._file = self.path.open("ab")

    def add(self, step: int, samples: np.ndarray) -> None:
        """Take the row of a step; nothing waits for the device.

        Raises Failure when rows are written and a loss among them is not finite.
        """
        if self._in_depth:
            self._in_depth.add(step)
        if not self._rows:
            self._state.look()
        ids = int.from_bytes(hashlib.blake2b(samples.data, digest_size=8).digest(), "little")
        odd = bool(step % 2)
        parts = [(self._gradients, not odd), (self._weights, odd)]
        if kind := self._state.fingerprint(step):
            parts.append((kind, False))
        if self._totals.on_host:
            found = [fingerprint.read(signs=signs) for fingerprint, signs in parts]
            self._rows.append((step, ids, self._totals.loss, found))
        else:
            there = [fingerprint.on_device(signs=signs) for fingerprint, signs in parts]
            self._rows.append((step, ids, self._totals.loss_there, there))
        if len(self._rows) == self._size:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        if self._in_depth:
            self._in_depth.flush()
        if self._rows and not self._totals.on_host:
            steps, ids, losses, found = zip(*self._rows, strict=True)
            lanes = torch.stack([lane for row in found for lane in row]).view(len(found), -1)
            unsigned = lanes.cpu().numpy().view(np.uint64)
            unsigned[:, :2] += np.uint64(self._weights.salt)  # of gradients, too
            values = torch.stack(losses).tolist()
            self._rows = list(zip(steps, ids, values, unsigned.tolist(), strict=True))
        rows = np.array(
            [(*row, *found, *_NOTHING[len(found) :], b"") for *row, found in self._rows], ROW
        )
        self._chain = chained(rows, self._chain)
        self._file.write(rows.tobytes())
        self._file.flush()
        self._rows.clear()
        if not np.isfinite(rows["loss"]).all():
            self._file.close()
            for row in rows:
                finite(float(row["loss"]), row["step"])

    @property
    def digests(self) -> dict[str, str]:
        """What stands in the files so far, by name: of the trace the end of its chain."""
        found = {NAME: self._chain.hex()}
        return found | ({TENSORS: self._in_depth.digest} if self._in_depth else {})

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


def _cut(path: Path, steps: int, expected: str | None) -> bytes:
    """Begin a trace, or cut one after `steps` rows; returns the chain so far.

    Raises Failure, naming the row, unless the rows that stay are those of `expected`.
    """
    chain = b"\0" * 16
    if steps == 0:
        path.write_bytes(header())
        return chain
    rows = read_trace(path.parent)[:steps] if path.is_file() else np.zeros(0, ROW)
    if len(rows) < steps:
        raise Failure(
            "the trace is shorter than the checkpoint it belongs to",
            where=str(path),
            expected=f"at least {steps} rows",
            got=str(len(rows)),
            fix="remove the run folder and start again",
        )
    content = rows.tobytes()
    for step, start in enumerate(range(0, len(content), ROW.itemsize)):
        row = content[start : start + ROW.itemsize]
        chain = link(chain, row)
        refuse_altered(path, step, row[-len(chain) :].hex(), chain.hex())
    refuse_altered(path, None, expected, chain.hex())
    os.truncate(path, HEADER_BYTES + steps * ROW.itemsize)
    return chain
