"""What an optimizer keeps, as fingerprints: one kind of state a step, by turns."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saigen.training.fingerprint import Fingerprint
from saigen.training.state import kept

WORD = 8  # saigen: constant, because a fingerprint reads words of 8 bytes


class OptimizerTrace:
    """Finds the live tensors of each kind of state (exp_avg, ...) and fingerprints one kind a step.

    torch's own optimizers keep their tensors where they were first put, and nothing but the rate
    moves outside of their state, so `look` is needed now and then. Of any other optimizer every
    step looks anew, and one kind is what numbers stand in its state, groups and attributes.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer, self._device = optimizer, device
        self._own = type(optimizer).__module__.startswith("torch.optim.")
        self._kinds: list[_Kind] = []

    def look(self) -> None:
        """Find what there is to trace."""
        kinds: dict[str, list[Tensor]] = {}
        numbers: list[str] = []
        for kind, value in self._parts():
            if isinstance(value, np.ndarray):
                numbers.append(value.tobytes().hex())
            elif isinstance(value, bool | int | float | complex | str | np.generic):
                numbers.append(repr(value))
            # the number of the step stands in the row already
            elif isinstance(value, Tensor) and value.numel() and not (self._own and kind == "step"):
                kinds.setdefault(kind, []).append(value)
        if numbers and not self._own:
            digest = hashlib.blake2b("\n".join(numbers).encode(), digest_size=WORD).digest()
            number = int.from_bytes(digest, "little", signed=True)
            kinds[""] = [torch.tensor([number], device=self._device)]
        self._kinds = [_Kind(kinds[kind], self._device) for kind in sorted(kinds)]

    def fingerprint(self, step: int) -> Fingerprint | None:
        """The fingerprint of the kind whose turn it is; None if there is nothing to trace."""
        if not self._own:
            self.look()
        return self._kinds[step % len(self._kinds)].fingerprint() if self._kinds else None

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for owner in kept(self._optimizer):
            for key, state in owner["state"].items():
                for kind, value in (
                    state.items() if isinstance(state, dict) else [(str(key), state)]
                ):
                    yield from _leaves(kind, value)
            if not self._own:
                for group in owner["param_groups"]:
                    for kind, value in group.items():
                        if kind not in ("params", "lr"):
                            yield from _leaves(f"group.{kind}", value)
                for kind, value in owner.items():
                    if kind not in ("state", "param_groups"):
                        yield from _leaves(f"self.{kind}", value)


class _Kind:
    """The tensors of one kind: as they lie where all are of whole words, else copied together."""

    def __init__(self, tensors: list[Tensor], device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        lying = all(t.numel() * t.itemsize % WORD == 0 and t.is_contiguous() for t in tensors)
        self._made = Fingerprint(tensors) if lying else None

    def fingerprint(self) -> Fingerprint:
        if self._made is not None:
            return self._made
        whole = [t.detach().to(self._device).contiguous() for t in self._tensors]
        parts = [t.view(-1).view(torch.uint8) for t in whole]
        filling = -sum(map(len, parts)) % WORD
        return Fingerprint([torch.cat([*parts, parts[0].new_zeros(filling)])])


def _leaves(kind: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(kind, item)
    elif not isinstance(value, torch.nn.Parameter):
        yield kind, value
