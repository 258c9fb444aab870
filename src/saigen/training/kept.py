"""Kept: what a training loop named, in flat memory, and as what a checkpoint holds without pickle.

No generator state: what is random is a function of the step.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saigen.config.schema import Config
from saigen.environment.optimizer_step import unwatch
from saigen.errors import Refusal
from saigen.training.codec import Decoder, Encoder
from saigen.training.flat import FlatModel
from saigen.training.groups import THAWED_AT
from saigen.training.layout import LINE
from saigen.training.optimizer import flatten, refuse_unless_elementwise
from saigen.training.selection import Selection
from saigen.training.state import (
    Tensors,
    export_model,
    export_optimizer,
    import_model,
    import_optimizer,
)
from saigen.training.step_totals import FIXED


class Kept:
    """The parts of a run: modules and optimizers in one flat memory, and other objects."""

    def __init__(
        self, parts: Mapping[str, Any], config: Config, selection: Selection, *, world: int
    ) -> None:
        """Move modules that are trained into flat memory, and their optimizers onto it.

        Raises Refusal if a part has no state, or an optimizer holds a parameter of no module.
        """
        for name, part in parts.items():
            _refuse_stateless(name, part)
            if isinstance(part, torch.optim.Optimizer):
                unwatch(part)
        self._selection = selection
        self.warnings: list[str] = []  # what was said before the first step
        self._optimizers = _of(parts, torch.optim.Optimizer)
        modules = _of(parts, nn.Module)
        optimized = {
            id(parameter): name
            for name, optimizer in self._optimizers.items()
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        trained = {
            name: module
            for name, module in modules.items()
            if any(id(parameter) in optimized for parameter in module.parameters())
        }
        self.trained: list[nn.Module] = list(trained.values())
        self._others = {n: p for n, p in parts.items() if n not in (*trained, *self._optimizers)}
        model = self.trained[0] if len(trained) == 1 else nn.ModuleDict(trained)
        _refuse_strangers(model, optimized)
        flat_layout = config.trainer.parameter_layout == "flat"
        groups: list[Sequence[Tensor]] = []
        if flat_layout:
            for optimizer in self.optimizers:
                refuse_unless_elementwise(optimizer)
            groups = [group["params"] for o in self.optimizers for group in o.param_groups]
        self.flat = FlatModel(
            model,
            # these sums ride along, in whole cache lines
            scalars=FIXED + len(config.trainer.loss_components),
            multiple=world * LINE,
            microbatches=config.trainer.microbatches,
            groups=groups,
        )
        self.thawed_at = {
            id(parameter): int(group[THAWED_AT])
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            if THAWED_AT in group
            for parameter in group["params"]
        }
        self._held = self.flat.held(one_tensor=flat_layout)
        first = 0
        for optimizer in self.optimizers if flat_layout else ():
            flatten(optimizer, self.flat, self._held, first)
            first += len(optimizer.param_groups)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers, in the order in which they were named."""
        return list(self._optimizers.values())

    @property
    def others(self) -> list[Any]:
        """What is neither trained nor an optimizer: averaged models, schedulers, own objects."""
        return list(self._others.values())

    def thaw(self, step: int) -> None:
        """Freeze and thaw what the groups say, for a step: the same whether or not it is the first
        of a run that is continued.
        """
        for parameter in self.flat.model.parameters():
            if id(parameter) in self.thawed_at:
                parameter.requires_grad_(step >= self.thawed_at[id(parameter)])
        self.flat.take_parts()

    def learning_rate(self) -> float:
        """The rate of the first group of the first optimizer; NaN if it has none."""
        first = self.optimizers[0].param_groups[0]
        return float(first["lr"]) if "lr" in first else math.nan

    def gradients_of(self, modules: Sequence[nn.Module]) -> list[Tensor]:
        """The gradients of some modules, flat real tensors. Raises Refusal if they have none."""
        wanted = {id(p) for module in modules for p in module.parameters()}
        if found := self.flat.gradients_of(wanted):
            return found
        raise Refusal(
            "step.microbatches was called for modules that are not trained",
            where="step.microbatches(...)",
            expected="modules, given to run.keep, whose parameters an optimizer holds",
            got=", ".join(type(module).__name__ for module in modules) or "no module",
            fix="name the module whose gradients the loss gives: step.microbatches(model, ...)",
        )

    def export(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors, which are the run's own memory, and values."""
        tensors, model = export_model(self.flat.model, "model")
        tensors |= {f"best.{name}": t for name, t in self._selection.tensors.items()}
        forms: dict[str, Any] = {}
        for name, optimizer in self._optimizers.items():
            more, form = export_optimizer(
                optimizer, self._known(), self.flat.grad_buffer, f"kept.{name}"
            )
            tensors, forms[name] = tensors | more, form
        for name, part in self._others.items():
            if isinstance(part, nn.Module):
                more, form = export_model(part, f"kept.{name}")
            else:
                encoder = Encoder({})
                form = encoder.encode(part.state_dict(), f"kept.{name}")
                more = encoder.tensors
            tensors, forms[name] = tensors | more, form
        values = {"model": model, "kept": forms, "selection": self._selection.values()}
        return tensors, values | {"warnings": self.warnings}

    def restore(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """The inverse of `export`. Raises Refusal if other parts were kept."""
        if values["kept"].keys() != self._optimizers.keys() | self._others.keys():
            raise _other_parts(values["kept"], self._optimizers.keys() | self._others.keys())
        best = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        import_model(self.flat.model, tensors, values["model"])
        for name, optimizer in self._optimizers.items():
            import_optimizer(optimizer, self._known(), tensors, values["kept"][name])
        for name, part in self._others.items():
            form = values["kept"][name]
            if isinstance(part, nn.Module):
                import_model(part, tensors, form)
            else:
                decoder = Decoder(tensors, {}, self.flat.grad_buffer.device)
                part.load_state_dict(decoder.decode(form))
        self._selection.restore(values["selection"], best)
        self.warnings = values["warnings"]

    def _known(self) -> dict[str, Tensor]:
        return {**dict(self.flat.model.named_parameters()), **self._held}


def _of(parts: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if isinstance(part, kind)}


def _refuse_stateless(name: str, part: Any) -> None:
    methods = ("state_dict", "load_state_dict")
    if lacking := [method for method in methods if not callable(getattr(part, method, None))]:
        raise Refusal(
            "there is no telling what state this object has",
            where=f"run.keep({name}=...)",
            expected="a module, an optimizer, or an object with state_dict and load_state_dict",
            got=f"{type(part).__name__} without {', '.join(lacking)}",
            fix=f"write {' and '.join(lacking)}: state_dict gives numbers, texts, tensors, and "
            "dicts and lists of them",
        )


def _refuse_strangers(model: nn.Module, optimized: Mapping[int, str]) -> None:
    own = {id(parameter) for parameter in model.parameters()}
    if optimized and optimized.keys() <= own:
        return
    stranger = next((name for key, name in optimized.items() if key not in own), None)
    raise Refusal(
        "an optimizer moves weights that no kept module holds"
        if stranger
        else "nothing that is kept is trained",
        where=f"run.keep({stranger or ''}{'=...' if stranger else ''})",
        expected="modules and the optimizers that hold their parameters",
        got=f"a parameter of {stranger} that is in no module" if stranger else "no optimizer",
        fix="run.keep(model=model, optimizer=optimizer), with every module that is trained",
    )


def _other_parts(before: Any, now: Any) -> Refusal:
    return Refusal(
        "the checkpoint holds other parts than the training loop keeps",
        where="run.keep(...)",
        expected=", ".join(sorted(before)),
        got=", ".join(sorted(now)),
        fix="keep the same names as before, or remove the run folder and start again",
    )
