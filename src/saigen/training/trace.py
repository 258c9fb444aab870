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
from saigen.training.fingerprint import Fingerprint, fingerprints, on_host
from saigen.training.sums import Sums
from saigen.training.trace_file import HEADER_BYTES, NAME, ROW, SCHEMA, read_trace

_CHAINED = ROW.itemsize - 16  # saigen: constant, because a row ends with 16 bytes of chain
# saigen: constant, because the trace has one layout
_STEP_COLUMNS = 5  # of fingerprints: two lanes twice, one once


class Trace:
    """Writes the trace of one run; `flush_steps` rows wait on the device at most."""

    def __init__(
        self,
        run: Path,
        *,
        gradients: list[torch.Tensor],
        weights: list[torch.Tensor],
        sums: Sums,
        flush_steps: int,
        resumed_at: int,
    ) -> None:
        """Take the memory that is traced; rows from step `resumed_at` on are cut off."""
        self.path = run / NAME
        self._sums, self._size = sums, flush_steps
        self._device = weights[0].device
        self._gradients = fingerprints(gradients, lanes=2)
        self._weights = fingerprints(weights, lanes=2)
        self._optimizer: list[Fingerprint] | None = None
        self._rows = np.zeros(flush_steps, ROW)
        self._lanes = torch.zeros(
            flush_steps, _STEP_COLUMNS, dtype=torch.int64, device=self._device
        )
        self._losses = torch.zeros(flush_steps, 2, dtype=torch.float64, device=self._device)
        self._count = 0
        self._chain = _cut(self.path, resumed_at)
        self._file = self.path.open("ab")

    def add(self, step: int, samples: np.ndarray, optimizer: torch.optim.Optimizer) -> None:
        """Take the row of a step; nothing waits for the device.

        Raises Failure when rows are written and a loss among them is not finite.
        """
        if self._optimizer is None:
            self._optimizer = fingerprints(_state_words(optimizer), lanes=1)
        place = self._count
        row = self._rows[place]
        row["step"] = step
        row["samples"] = int.from_bytes(
            hashlib.blake2b(samples.tobytes(), digest_size=8).digest(), "little"
        )
        if self._device.type == "cpu":
            row["loss"] = self._sums.loss
            row["gradients"] = on_host(self._gradients)
            row["weights"] = on_host(self._weights)
            row["optimizer"] = on_host(self._optimizer)[0]
        else:
            self._on_device(place)
        self._count += 1
        if self._count == self._size:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        rows = self._rows[: self._count]
        if self._device.type != "cpu" and self._count:
            lanes = self._lanes[: self._count].cpu().numpy().view(np.uint64)
            losses = self._losses[: self._count].cpu().numpy()
            rows["loss"] = losses[:, 0] / losses[:, 1]
            rows["gradients"], rows["weights"] = lanes[:, 0:2], lanes[:, 2:4]
            rows["optimizer"] = lanes[:, 4]
        for row in rows:
            content = row.tobytes()[:_CHAINED]
            self._chain = hashlib.blake2b(self._chain + content, digest_size=16).digest()
            row["chain"] = self._chain
        self._file.write(rows.tobytes())
        self._file.flush()
        self._count = 0
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
        steps = (self.path.stat().st_size - HEADER_BYTES) // ROW.itemsize
        return {"sha256": digest_file(self.path), "steps": steps}

    def _on_device(self, place: int) -> None:
        lanes = self._lanes[place]
        lanes.zero_()
        # saigen: constant, because the trace has one layout
        parts = ((self._gradients, 0, 2), (self._weights, 2, 4), (self._optimizer or [], 4, 5))
        for several, start, stop in parts:
            for fingerprint in several:
                out = torch.empty_like(lanes[start:stop])
                fingerprint.on_device(out)
                lanes[start:stop] += out
        self._losses[place] = self._sums.pair


def _cut(path: Path, steps: int) -> bytes:
    """Begin a trace, or cut one after `steps` rows; returns the chain so far."""
    if steps == 0 or not path.is_file():
        head = json.dumps({"schema": SCHEMA, "row": _described()}).encode()
        path.write_bytes(head.ljust(HEADER_BYTES - 1) + b"\n")
        return b"\0" * 16  # saigen: constant, because a link of the chain has 16 bytes
    rows = read_trace(path.parent)
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


def _state_words(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """The optimizer's tensors of whole words, in the order of its parameters and keys."""
    found: list[torch.Tensor] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for _, value in sorted(optimizer.state.get(parameter, {}).items()):
                # saigen: constant, because a word has 8 bytes
                if torch.is_tensor(value) and value.numel() * value.itemsize % 8 == 0:
                    found.append(value)
    return found


def _refuse_loss(row: Any) -> None:
    raise Failure(
        "the loss is not a number any more",
        where=f"step {row['step']}",
        expected="a finite loss",
        got=str(row["loss"]),
        fix="lower optimizer.lr, set trainer.clip_gradient_norm, or look for NaN in the data",
    )
