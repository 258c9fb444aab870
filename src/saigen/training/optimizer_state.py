"""Optimizer state as named tensors and plain numbers, so that a checkpoint needs no pickle."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from saigen.refusal import Refusal

Number: TypeAlias = int | float | bool | None


def export_state(
    optimizer: torch.optim.Optimizer, names: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Number]]:
    """Return the state of every named parameter as ``{"name.key": tensor}`` and numbers alike.

    `names` says what to call each parameter that the optimizer holds. The tensors are the
    optimizer's own memory: clone what must outlive the next step.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Number] = {}
    for name, parameter in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{key}"] = value.detach()
            elif value is None or isinstance(value, int | float):
                numbers[f"{name}.{key}"] = value
            else:
                raise _unsaveable(optimizer, f"{name}.{key}", value)
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
    for full, value in {**tensors, **numbers}.items():
        name, _, key = full.rpartition(".")
        if name not in states:
            raise Refusal(
                "saved optimizer state belongs to no parameter",
                where=f"optimizer state {full!r}",
                expected="one of " + ", ".join(names),
                got=repr(name),
                fix="build model and optimizer from the configuration the state was saved with",
            )
        states[name][key] = value
    # Adam's `step` lives on the host, except where the kernel itself reads it.
    on_device = any(g.get("fused") or g.get("capturable") for g in optimizer.param_groups)
    for name, parameter in names.items():
        for key, value in states[name].items():
            if isinstance(value, Tensor):
                device = parameter.device if value.dim() or on_device else torch.device("cpu")
                states[name][key] = value.to(device, copy=True)
        optimizer.state[parameter] = states[name]


def _unsaveable(optimizer: torch.optim.Optimizer, name: str, value: object) -> Refusal:
    return Refusal(
        "this optimizer keeps state that a checkpoint cannot hold",
        where=f"{type(optimizer).__name__}, {name}",
        expected="tensors and numbers",
        got=type(value).__name__,
        fix="choose an optimizer whose state is tensors and numbers",
    )
