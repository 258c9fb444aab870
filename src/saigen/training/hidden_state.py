"""Hidden state: counters, generators and caches that a loss or its gradients depend on and no
checkpoint keeps.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saigen.data.contract import Task, some_of
from saigen.data.loader import Batch, Dataset, Position
from saigen.project_code import place_of
from saigen.training.leaks import GlobalsWatch
from saigen.training.state import PutBack, same_bits
from saigen.training.untrained import TORCH_S_OWN


def hidden_state(
    model: nn.Module,
    task: Task,
    loss_of: Callable[[Batch], Any],
    batch: Batch,
    *,
    is_copy: bool,
) -> list[str]:
    """Whether a loss, or a gradient of a copied model, hangs on what no checkpoint keeps: another
    one after the loss of other rows than after that of these, which was just computed, though
    state, rows and random numbers are the same. Says which attributes changed in between.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return []

    def loss(rows: Batch) -> list[Tensor]:
        with PutBack().behind(model):
            computed: Tensor = loss_of({name: t.clone() for name, t in rows.items()})[0]
            gradients: list[Tensor] = []
            with suppress(Exception):  # whose backward pass fails is told so in the first step
                wanted = [p for p in model.parameters() if p.requires_grad and is_copy]
                found = torch.autograd.grad(computed, wanted, allow_unused=True)
                gradients = [g for g in found if g is not None and g.layout == torch.strided]
        return [computed.detach(), *gradients]

    def others() -> None:
        with suppress(Exception):  # a fixed batch size
            half = min(map(len, batch.values())) // 2
            loss({name: tensor[:half] for name, tensor in batch.items()})

    first = loss(batch)
    others()
    again = loss(batch)
    if len(first) == len(again) and all(map(same_bits, first, again)):
        return []
    what = "gradient" if same_bits(first[0], again[0]) else "loss"
    others()
    before = _plain(model, task)
    loss(batch)
    changed = [name for name, value in _plain(model, task).items() if before.get(name) != value]
    return [
        f"the {what} of the same rows, weights and random numbers is another one the second time "
        f"({some_of(changed) if changed else 'no attribute of model or task'} changed), so a run "
        "that is interrupted would not go on with its numbers: make what it depends on a buffer or "
        "extra state (get_extra_state), and draw from the global generators"
    ]


def hidden_in_reading(
    read: Callable[[Position], Batch], position: Position, batch: Batch, dataset: Dataset
) -> list[str]:
    """Whether the samples of a batch, which was just read, are others when they are read again,
    behind some of them.
    """
    epoch, *rows = position
    samples, places = (row[: len(row) // 2 + 1] for row in rows)
    read((epoch, samples, places))
    again = read(position)
    other = [n for n, rows in batch.items() if n not in again or not same_bits(rows, again[n])]
    if not other:
        return []
    return [
        f"the same samples are others when they are read a second time ({some_of(other)}: "
        f"{place_of(type(dataset))}), so workers or an interruption would change the run: draw "
        "from its argument `generator`, and keep no state"
    ]


def draws_in_reading(read: Callable[[Position], Batch], position: Position) -> bool:
    """Whether reading a batch moves a global generator, by as much as is seen on one batch."""
    watch = GlobalsWatch(locate=False)
    watch.arm()
    read(position)
    return bool(watch.check())


def _plain(model: nn.Module, task: Task) -> dict[str, Any]:
    """The plain attributes of model and task, in a form that can be compared later."""
    owners = [("task", task), *((f"model.{n}".rstrip("."), m) for n, m in model.named_modules())]
    return {
        f"{owner}.{name}": _frozen(value)
        for owner, held in owners
        if hasattr(held, "__dict__")
        for name, value in vars(held).items()
        if name not in TORCH_S_OWN
    }


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_frozen(part) for part in value]
    for kind, state in _KINDS.items():
        if isinstance(value, kind):
            return state(value)
    return repr(value) if isinstance(value, bool | int | float | str | np.generic) else id(value)


_KINDS: dict[type, Callable[[Any], Any]] = {
    Tensor: lambda tensor: tensor.detach().cpu().reshape(-1).tolist(),
    np.ndarray: lambda array: array.tolist(),
    torch.Generator: lambda generator: generator.get_state().tolist(),
    np.random.Generator: lambda generator: repr(generator.bit_generator.state),
    np.random.RandomState: lambda generator: repr(generator.get_state()),
    random.Random: lambda generator: generator.getstate(),
}
