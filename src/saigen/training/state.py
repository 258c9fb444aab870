"""The state of a module or an optimizer, as named tensors and JSON values, and back to the bit."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from saigen.data.contract import some_of
from saigen.training.codec import Decoder, Encoder
from saigen.training.model_state import extra, live, restore_live

Tensors = dict[str, Tensor]


def export_model(model: nn.Module, name: str) -> tuple[Tensors, Any]:
    """Parameters, all buffers and extra state of a model, as tensors below `name` and forms."""
    encoder = Encoder({})
    forms = {n: encoder.encode(t, f"{name}.{n}") for n, t in live(model).items()}
    more = {
        n: encoder.encode(m.get_extra_state(), f"{name} extra.{n}") for n, m in extra(model).items()
    }
    return encoder.tensors, {"tensors": forms, "extra": more}


def import_model(model: nn.Module, tensors: Mapping[str, Tensor], values: Any) -> None:
    """Put an exported model state back, to the bit, into a model of the same form."""
    now = live(model)
    decoder = Decoder(tensors, {}, _device(now))
    with torch.no_grad():
        forms = values["tensors"]
        restore_live(model, {n: decoder.decode(form, now.get(n)) for n, form in forms.items()})
        for name, module in extra(model).items():
            module.set_extra_state(decoder.decode(values["extra"][name]))


class PutBack:
    """Gives a model the state back that it had before an evaluation, so that what training makes
    does not depend on how often one measures; and remembers what an evaluation had changed.

    Costs a copy of the state, and a look at it.
    """

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._told: set[str] = set()

    @contextmanager
    def behind(self, model: nn.Module) -> Iterator[None]:
        """While the context lasts an evaluation may change the state; then that is undone."""
        tensors, values = export_model(model, "model")
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        try:
            yield
        finally:
            self._put_back(model, tensors, values)

    def _put_back(self, model: nn.Module, tensors: Tensors, values: Any) -> None:
        now, forms = export_model(model, "model")
        same = {name for name, t in tensors.items() if name in now and same_bits(t, now[name])}
        changed = {name.partition(".")[2] for name in tensors.keys() - same}
        for part, before in values.items():
            changed |= {name for name, form in before.items() if forms[part].get(name) != form}
        if changed:
            self._changed |= {name.strip(".") or "_extra_state" for name in changed}
            import_model(model, tensors, values)

    def warnings(self) -> list[str]:
        """What there is to say of it, and was not said yet."""
        names, self._told = some_of(sorted(self._changed - self._told)), set(self._changed)
        if not names:
            return []
        return [
            f"evaluation changes the model's state ({names}), as observers and Embedding(max_norm) "
            "do: training goes on with the state that it had, but what is predicted for a row may "
            "depend on the rows before it"
        ]


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one device are equal, also where they hold NaN."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.equal(*(t.contiguous().view(-1).view(torch.uint8) for t in (one, other)))


def export_optimizer(
    optimizer: torch.optim.Optimizer, known: Mapping[str, Tensor], gradients: Tensor, name: str
) -> tuple[Tensors, Any]:
    """State, parameter groups and what else the optimizer keeps, as tensors by name and a form.

    `known` are the parameters, and `gradients` is memory that the next step overwrites.
    """
    encoder = Encoder(known)
    encoder.occupy(gradients, "the gradients")
    return encoder.tensors, encoder.encode(kept(optimizer), name)


def import_optimizer(
    optimizer: torch.optim.Optimizer,
    known: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    form: Any,
) -> None:
    """Put an exported state back, to the bit, with clones of the tensors.

    Not through `load_state_dict`, which casts state to the parameter's type.
    """
    now = kept(optimizer)
    decoded = Decoder(tensors, known, _device(known)).decode(form, now)
    for owner, attributes in zip(_owners(optimizer), decoded, strict=True):
        vars(owner).update(attributes)


def kept(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What an optimizer, and each optimizer inside it, keeps: state, groups, and attributes of its
    own other than functions, classes and modules.
    """
    return [
        {
            name: value
            for name, value in vars(owner).items()
            if name not in _torch_s_own() and not _constant(value)
        }
        for owner in _owners(optimizer)
    ]


def _owners(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """The optimizer, and those that are attributes of it."""
    owners = [optimizer]
    for owner in owners:
        inner = (v for v in vars(owner).values() if isinstance(v, torch.optim.Optimizer))
        owners += [one for one in inner if all(one is not other for other in owners)]
    return owners


def _constant(value: Any) -> bool:
    constant = callable(value) or inspect.ismodule(value) or isinstance(value, nn.Module)
    return constant or isinstance(value, torch.optim.Optimizer)


@cache
def _torch_s_own() -> frozenset[str]:
    """The attributes that torch gives every optimizer and that training does not change."""
    # saigen: constant, because any optimizer will do
    plain = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    return frozenset(vars(plain)) - {"state", "param_groups"} | {"_opt_called", "_step_count"}


def _device(tensors: Mapping[str, Tensor | None]) -> torch.device:
    return next(tensor.device for tensor in tensors.values() if tensor is not None)
