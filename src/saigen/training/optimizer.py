"""The optimizer: built on the model's parameters, over flat memory where that is right, and
scheduled.
"""

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from saigen.recipe.callables.callees import instantiate
from saigen.recipe.schema import Call, Config
from saigen.refusal import Failure, Refusal
from saigen.training.flat import FlatModel, trainable
from saigen.training.layout import LINE
from saigen.training.stepping import hooked

# Those of torch.optim that treat every element alike, so that one flat tensor is to them what many
# are: by measurement, tests/test_optimizers.py.
ELEMENTWISE = {
    *("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax"),
    *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD"),
}


def lay_flat(
    model: nn.Module, config: Config, *, world: int
) -> tuple[FlatModel, torch.optim.Optimizer, dict[str, nn.Parameter]]:
    """Move a model into flat memory and build its optimizer; also what that holds, by name.

    Under `parameter_layout: flat` the optimizer is built twice: on the model's own parameters, so
    that its rules see their shapes, and group by group on flat ones.
    """
    one_tensor, groups = config.trainer.parameter_layout == "flat", []
    if one_tensor:
        seen = build_optimizer(config.optimizer, list(trainable(model).values()))
        refuse_unless_elementwise(seen)
        groups = [group["params"] for group in seen.param_groups]
    flat = FlatModel(
        model,
        # saigen: constant, because three sums ride along, in whole cache lines
        scalars=3,
        multiple=world * LINE,
        microbatches=config.trainer.microbatches,
        groups=groups,
    )
    held = flat.held(one_tensor=one_tensor)
    if one_tensor:
        return flat, _flatten(seen, flat, held), held
    return flat, build_optimizer(config.optimizer, list(held.values())), held


def build_optimizer(call: Call, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Build it on the model's own parameters. Raises Refusal if it cannot be built or stepped."""
    try:
        optimizer = instantiate(call, params=parameters)
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(
            "the optimizer does not take the model's parameters",
            where=f"optimizer ({call.target})",
            expected="an optimizer that can be built on every trainable parameter",
            got=f"{type(error).__name__}: {error}",
            fix="choose another optimizer or other arguments, or build groups for it in a function "
            "in src/project",
        ) from error
    _refuse_unfit(optimizer, call)
    return optimizer  # type: ignore[no-any-return]


def _flatten(
    optimizer: torch.optim.Optimizer, flat: FlatModel, held: Mapping[str, nn.Parameter]
) -> torch.optim.Optimizer:
    """The same optimizer, group by group, over flat tensors."""
    kind = type(optimizer)
    groups = [
        group | {"params": [held[name] for name in flat.names_of_group(index)]}
        for index, group in enumerate(optimizer.param_groups)
    ]
    # what a base class takes (`decoupled_weight_decay`) comes with the groups
    taken = inspect.signature(kind).parameters
    stated = {name: value for name, value in optimizer.defaults.items() if name in taken}
    flattened: torch.optim.Optimizer = kind(groups, **stated)
    return flattened


def refuse_unless_elementwise(optimizer: torch.optim.Optimizer) -> None:
    """Raise Refusal unless one flat tensor is to this optimizer what many are."""
    kind = type(optimizer)
    known = kind.__module__.startswith("torch.optim.") and kind.__name__ in ELEMENTWISE
    if known and not hooked(optimizer):
        return
    raise Refusal(
        "nobody knows whether this optimizer treats every element alike, so it must see the "
        "model's own tensors",
        where="trainer.parameter_layout",
        expected=f"tensors, or one of torch.optim's {', '.join(sorted(ELEMENTWISE))} without hooks",
        got=f"flat, for {kind.__module__}.{kind.__qualname__}" + " with hooks" * known,
        fix="set trainer.parameter_layout=tensors",
    )


class Rates:
    """The learning rate of every group: what the group began with, times the scheduler's factor."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the rates as they stand. Raises Refusal if a group has none."""
        self._groups = optimizer.param_groups
        if any("lr" not in group for group in self._groups):
            raise Refusal(
                "the optimizer has a group without a learning rate, which nothing could schedule",
                where="optimizer: param_groups",
                expected="a number `lr` in every group",
                got=", ".join(sorted(map(str, self._groups[0]))),
                fix="give the optimizer a learning rate, 1.0 if it finds its own, which it "
                "multiplies its steps by",
            )
        self._rates = [(group, float(group["lr"])) for group in self._groups]
        self._factor = 1.0
        self._tensors = any(isinstance(group["lr"], Tensor) for group in self._groups)

    def set(self, factor: float) -> float:
        """Set every group's rate; returns that of the first one."""
        for group, rate in self._rates:
            if self._tensors and isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        self._factor = factor
        return self._rates[0][1] * factor

    def check(self) -> None:
        """Refuse if the optimizer moves its rates or its groups by itself."""
        now = [float(group["lr"]) for group in self._groups]
        # a rate in a tensor is rounded
        set_here = [
            float(torch.tensor(rate * self._factor, dtype=_dtype(group["lr"])))
            for group, rate in self._rates
        ]
        if now != set_here:
            raise Refusal(
                "the optimizer changes its learning rates or groups itself, which the scheduler "
                "would overwrite",
                where="optimizer: param_groups",
                expected=f"{len(set_here)} groups at the rates that were set: {set_here}",
                got=f"{len(now)} groups at {now}",
                fix="let it keep its factor under another key than `lr`, and make all groups in "
                "the beginning",
            )


def failed_step(optimizer: torch.optim.Optimizer, error: Exception, *, first: bool) -> Refusal:
    """What to raise for an error of the optimizer's step, which may be the first one."""
    return (Refusal if first else Failure)(
        "the optimizer could not take its step",
        where=f"optimizer ({type(optimizer).__name__})",
        expected="a step over dense gradients, without a closure",
        got=f"{type(error).__name__}: {error}",
        fix="choose another optimizer, or other arguments for it",
    )


def _dtype(rate: float | Tensor) -> torch.dtype:
    return rate.dtype if isinstance(rate, Tensor) else torch.float64


def _refuse_unfit(optimizer: object, call: Call) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        got, expected = type(optimizer).__name__, "a torch.optim.Optimizer"
    elif isinstance(optimizer, torch.optim.SparseAdam):
        got = "an optimizer that takes sparse gradients only"
        expected = "one that takes dense gradients, which is how microbatches are summed"
    elif _needs_closure(optimizer):
        got, expected = (
            "an optimizer that calls the loss itself, as often as it likes (a closure)",
            ("one that takes a single gradient for each step"),
        )
    else:
        return
    raise Refusal(
        "this optimizer cannot be stepped here",
        where=f"optimizer._target_ ({call.target})",
        expected=expected,
        got=got,
        fix="choose another optimizer, such as torch.optim.AdamW or torch.optim.SGD",
    )


def _needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    _, *parameters = inspect.signature(type(optimizer).step).parameters.values()
    empty = inspect.Parameter.empty
    return any(p.default is empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
