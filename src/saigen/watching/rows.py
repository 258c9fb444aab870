"""The trace of a loop that is not ours: a row behind each step of an optimizer.

The rows are those of the house's own trace, so that they are read and compared alike. Nothing is
laid flat here: what a step left is read where it lies, signs included. Rows of a device are brought
to the host together.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saigen.digest import digest_file
from saigen.training.fingerprint import Fingerprint
from saigen.training.state_trace import Kind, StateTrace
from saigen.training.trace_file import NAME, ROW, chained, header

_WAITING = 20  # rows at most
_NOTHING = (0, 0, 0)  # the fingerprint of nothing
_WHOLE = 2**64


class Buffers:
    """What a model holds besides its parameters, as a part of what is kept."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Tensor]:
        """Every buffer, persistent or not, by name."""
        return dict(self._model.named_buffers())


class Rows:
    """Writes the trace of a watched loop."""

    def __init__(
        self,
        run: Path,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        others: Iterable[Any],
    ) -> None:
        """Begin the trace in a run folder; `others` have `state_dict`, as schedulers do."""
        self._path = run / NAME
        self._path.write_bytes(header())
        self._device = next(model.parameters()).device
        self._parameters = [*model.parameters()]
        self._weights: tuple[tuple[int, ...], Kind | None] = ((), None)
        state = [Buffers(model), *others] if [*model.buffers()] else [*others]
        self._state = StateTrace(optimizers, state, self._device)
        self._chain = b"\0" * 16
        self._rows: list[tuple[int, Any, list[Any]]] = []
        self.steps = 0

    def add(self, loss: Tensor | float, samples: int) -> None:
        """Take the row of a step: its gradients and weights, and one kind of its state by turns."""
        if not self._rows:
            self._state.look()
        gradients = [
            part for p in self._parameters if p.grad is not None for part in _dense(p.grad)
        ]
        found = [self._read(self._kind(gradients)), self._read(self._lying())]
        if kind := self._state.fingerprint(self.steps):
            found.append(self._value(kind))
        self._rows.append((samples, loss, found))
        self.steps += 1
        if len(self._rows) == _WAITING:
            self.flush()

    def _kind(self, tensors: list[Tensor]) -> Kind | None:
        whole = [t if t.device == self._device else t.to(self._device) for t in tensors]
        whole = [t for t in whole if t.numel()]
        return Kind(whole, self._device) if whole else None

    def _lying(self) -> Kind | None:
        """The weights, looked for anew where they do not lie where they lay."""
        addresses = tuple(p.data_ptr() for p in self._parameters)
        elsewhere = any(p.device != self._device for p in self._parameters)  # read is a copy
        if addresses != self._weights[0] or elsewhere:
            self._weights = addresses, self._kind([p.detach() for p in self._parameters])
        return self._weights[1]

    def _read(self, kind: Kind | None) -> Tensor | int:
        return self._value(kind.fingerprint()) if kind else 0

    def _value(self, found: Fingerprint) -> Tensor | int:
        on_host = self._device.type == "cpu"
        return found.read(signs=True) if on_host else found.on_device(signs=True)

    def flush(self) -> None:
        """Write the rows that wait."""
        first = self.steps - len(self._rows)
        rows = np.zeros(len(self._rows), ROW)
        for row, (number, (samples, loss, found)) in zip(rows, enumerate(self._rows), strict=True):
            parts = [int(part) % _WHOLE for part in found]
            row["step"], row["samples"], row["loss"] = first + number, samples, float(loss)
            row["gradients"], row["weights"], row["optimizer"] = (*parts, *_NOTHING)[:3]
        self._chain = chained(rows, self._chain)
        with self._path.open("ab") as file:
            file.write(rows.tobytes())
        self._rows.clear()

    def close(self) -> dict[str, Any]:
        """Write what waits; returns the trace's part of the outcome."""
        self.flush()
        return {"sha256": digest_file(self._path), "steps": self.steps}


def digest_of_samples(samples: Any) -> int:
    """Eight bytes of BLAKE2b over the ids of a step's samples, in order: numbers or texts."""
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu().numpy()
    array = np.asarray(samples)
    whole = array.dtype.kind in "iub"
    content = (
        array.astype(np.int64).tobytes()
        if whole
        else "\n".join(map(str, array.ravel().tolist())).encode()
    )
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _dense(gradient: Tensor) -> list[Tensor]:
    """The tensors that a gradient is made of; a sparse one of places and values."""
    if gradient.layout is torch.sparse_coo:
        whole = gradient.detach().coalesce()
        return [whole.indices(), whole.values()]
    return [gradient.detach()]
