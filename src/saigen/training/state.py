"""The state of a run between two steps, as named tensors and JSON values: what a checkpoint holds
without pickle, and how it is put back. No generator state: what is random is a function of the
step.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from saigen.refusal import Refusal
from saigen.training.flat import FlatModel
from saigen.training.selection import Selection

Number: TypeAlias = int | float | bool | None


class RunState:
    """Model, optimizer and selection. `names` says what to call each parameter that the optimizer
    holds.
    """

    def __init__(
        self,
        flat: FlatModel,
        optimizer: torch.optim.Optimizer,
        names: Mapping[str, Tensor],
        selection: Selection,
    ) -> None:
        self._flat, self._optimizer, self._names = flat, optimizer, names
        self._selection = selection

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, which are the run's own memory, and values."""
        tensors = {f"model.{name}": tensor for name, tensor in self._flat.tensors().items()}
        tensors |= {f"best.{name}": t for name, t in self._selection.tensors.items()}
        state, numbers = export_state(self._optimizer, self._names)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
        return tensors, {"optimizer": numbers, "selection": self._selection.values()}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """The inverse of `export`."""

        def part(head: str) -> dict[str, Tensor]:
            return {n.removeprefix(head): t for n, t in tensors.items() if n.startswith(head)}

        self._flat.load(part("model."))
        import_state(self._optimizer, self._names, part("optimizer."), values["optimizer"])
        self._selection.restore(values["selection"], part("best."))


def export_state(
    optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Number]]:
    """Return the state of every named parameter as ``{"name.key": tensor}`` and numbers alike."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Number] = {}
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value.detach()
            elif value is None or isinstance(value, int | float):
                numbers[f"{name}.{key}"] = value
            else:
                raise Refusal(
                    "this optimizer keeps state that a checkpoint cannot hold",
                    where=f"{type(optimizer).__name__}, {name}.{key}",
                    expected="tensors and numbers",
                    got=type(value).__name__,
                    fix="choose an optimizer whose state is tensors and numbers",
                )
    return tensors, numbers


def import_state(
    optimizer: torch.optim.Optimizer,
    names: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Number],
) -> None:
    """Put exported state back, to the bit, with clones of the tensors.

    Not through `load_state_dict`, which casts state to the parameter's type.
    """
    states: dict[str, dict[str, Any]] = {name: {} for name in names}
    # Adam's `step` lives on the host, except where the kernel itself reads it.
    on_device = any(g.get("fused") or g.get("capturable") for g in optimizer.param_groups)
    for full, value in {**tensors, **numbers}.items():
        name, _, key = full.rpartition(".")
        states[name][key] = value
        if isinstance(value, Tensor):
            device = names[name].device if value.dim() or on_device else torch.device("cpu")
            states[name][key] = value.to(device, copy=True)
    for name, parameter in names.items():
        optimizer.state[parameter] = states[name]
