"""What is kept besides weights, as fingerprints: one kind of state a step, by turns."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saigen.training.fingerprint import Fingerprint
from saigen.training.model_state import live
from saigen.training.state import kept

WORD = 8  # a fingerprint reads words of 8 bytes


class StateTrace:
    """Finds the live tensors of each kind of state (exp_avg, ...) and fingerprints one kind a step.

    torch's own optimizers keep their tensors where they were first put, and nothing but the rate
    moves outside of their state, so `look` is needed now and then. Where anything else is kept,
    every step looks anew.
    """

    def __init__(
        self,
        optimizers: Iterable[torch.optim.Optimizer],
        others: Iterable[Any],
        device: torch.device,
    ) -> None:
        self._sources: list[_Source] = [_Optimizer(one, device) for one in optimizers]
        self._sources += [_Other(part, device) for part in others]
        self._fixed = all(isinstance(s, _Optimizer) and s.own for s in self._sources)
        self._kinds: list[Kind] = []

    def look(self) -> None:
        """Find what there is to trace."""
        self._kinds = [kind for source in self._sources for kind in source.kinds()]

    def fingerprint(self, step: int) -> Fingerprint | None:
        """The fingerprint of the kind whose turn it is; None if there is nothing to trace."""
        if not self._fixed:
            self.look()
        return self._kinds[step % len(self._kinds)].fingerprint() if self._kinds else None


class _Source:
    """What one kept part holds, by kind."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._found: tuple[tuple[int, ...], list[Kind]] = ((), [])

    def parts(self) -> Iterator[tuple[str, Any]]:
        raise NotImplementedError

    def kinds(self, *, numbers_too: bool = True, passed_over: str = "") -> "list[Kind]":
        """Its tensors by kind, and as one kind more what numbers it holds."""
        kinds: dict[str, list[Tensor]] = {}
        numbers: list[str] = []
        for kind, value in self.parts():
            if isinstance(value, np.ndarray):
                numbers.append(value.tobytes().hex())
            elif isinstance(value, bool | int | float | complex | str | np.generic):
                numbers.append(repr(value))
            elif isinstance(value, Tensor) and value.numel() and kind != passed_over:
                kinds.setdefault(kind, []).append(value)
        lying = tuple(id(t) for of_kind in kinds.values() for t in of_kind)
        if not numbers_too and self._found[0] == lying:
            return self._found[1]
        if numbers and numbers_too:
            digest = hashlib.blake2b("\n".join(numbers).encode(), digest_size=WORD).digest()
            number = int.from_bytes(digest, "little", signed=True)
            kinds[""] = [torch.tensor([number], device=self._device)]
        found = [Kind(kinds[kind], self._device) for kind in sorted(kinds)]
        self._found = (lying, found)  # which holds the tensors, so that no other has their ids
        return found


class _Optimizer(_Source):
    """An optimizer's state; of one that is not torch's own also its groups and attributes."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        super().__init__(device)
        self._optimizer = optimizer
        self.own = type(optimizer).__module__.startswith("torch.optim.")

    def kinds(self, *, numbers_too: bool = True, passed_over: str = "") -> "list[Kind]":
        # the number of the step stands in the row already
        passed_over = "step" if self.own else passed_over
        return super().kinds(numbers_too=numbers_too and not self.own, passed_over=passed_over)

    def parts(self) -> Iterator[tuple[str, Any]]:
        for owner in kept(self._optimizer):
            for key, state in owner["state"].items():
                for kind, value in (
                    state.items() if isinstance(state, dict) else [(str(key), state)]
                ):
                    yield from _leaves(kind, value)
            if not self.own:
                for group in owner["param_groups"]:
                    for kind, value in group.items():
                        if kind not in ("params", "lr"):
                            yield from _leaves(f"group.{kind}", value)
                for kind, value in owner.items():
                    if kind not in ("state", "param_groups"):
                        yield from _leaves(f"self.{kind}", value)


class _Other(_Source):
    """A module that is not trained, or an object with `state_dict`."""

    def __init__(self, part: Any, device: torch.device) -> None:
        super().__init__(device)
        self._part = part

    def parts(self) -> Iterator[tuple[str, Any]]:
        if isinstance(self._part, torch.nn.Module):
            yield from ((type(self._part).__name__, t) for t in live(self._part).values())
        else:
            yield from _leaves(type(self._part).__name__, self._part.state_dict())


class Kind:
    """The tensors of one kind: as they lie where all are of whole words, else copied together."""

    def __init__(self, tensors: list[Tensor], device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        lying = all(t.numel() * t.itemsize % WORD == 0 and t.is_contiguous() for t in tensors)
        self._made = Fingerprint(tensors) if lying else None

    def fingerprint(self) -> Fingerprint:
        """Its fingerprint, as it is now."""
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
