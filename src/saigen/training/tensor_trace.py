"""The trace in depth: for each step the fingerprints of every parameter and its gradient.

For `tracking.trace_depth: tensor`. It names the tensor in which two runs part without replaying
them, for some 10 us a tensor and step. It lies beside the trace and is no part of the outcome.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from saigen.training.fingerprint import Fingerprint
from saigen.training.flat import FlatModel
from saigen.training.trace_file import TENSORS, read_tensors, refuse_altered, tensor_row


class TensorTrace:
    """Writes it for one run; rows wait in memory until `flush`."""

    def __init__(
        self, run: Path, flat: FlatModel, *, resumed_at: int, expected: str | None
    ) -> None:
        """Take the memory that is traced; rows from step `resumed_at` on are cut off, and those
        before it must have the digest `expected`, unless nothing was traced then.
        """
        of = {name: (values, grad_buffer) for name, values, grad_buffer in flat.parameters()}
        self._pairs = [
            (Fingerprint([grad_buffer]), Fingerprint([v])) for v, grad_buffer in of.values()
        ]
        self._dtype = tensor_row(len(of))
        self._rows: list[tuple[int, list[tuple[int, int]]]] = []
        path, head = run / TENSORS, json.dumps(list(of)).encode() + b"\n"
        if resumed_at == 0 or expected is None:
            path.write_bytes(head)
        kept = int((read_tensors(run)[1]["step"] < resumed_at).sum())
        size = len(head) + kept * self._dtype.itemsize
        content = path.read_bytes()[:size] if path.is_file() else b""
        self._digest = hashlib.sha256(content)
        if resumed_at and expected:
            refuse_altered(path, None, expected, self.digest)
        os.truncate(path, size)
        self._file = path.open("ab")

    def add(self, step: int) -> None:
        """Take the row of a step; waits for the device."""
        found = [
            (grad_buffer.read(signs=True), values.read(signs=True))
            for grad_buffer, values in self._pairs
        ]
        self._rows.append((step, found))

    def flush(self) -> None:
        """Write the rows that wait."""
        content = np.array(self._rows, self._dtype).tobytes()
        self._digest.update(content)
        self._file.write(content)
        self._file.flush()
        self._rows.clear()

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
