"""The optimizer: built on a model's parameters in groups, over flat memory where that is right,
and scheduled.
"""

import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from saigen.config.callables import instantiate
from saigen.config.schema import Call
from saigen.environment.optimizer_step import WATCHED, bare_step, hooked, unwatch
from saigen.errors import Failure, Refusal
from saigen.training.flat import FlatModel
from saigen.training.groups import THAWED_AT, parameter_groups
from saigen.training.loss_scale import LossScale

# Those of torch.optim that treat every element alike, so that one flat tensor is to them what many
# are: by measurement, tests/test_optimizers.py.
ELEMENTWISE = {
    *("ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax"),
    *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD"),
}


def build_optimizer(call: Call, model: nn.Module) -> torch.optim.Optimizer:
    """Build it on a module's trainable parameters, in groups by the rules of the config.

    Raises Refusal if it cannot be built or stepped.
    """
    rules, call = call.split("parameter_groups")
    parameters = parameter_groups(model, rules or ())
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
            fix="choose another optimizer or other arguments, or build it in trainer.loop",
        ) from error
    _refuse_unfit(optimizer, call)
    return optimizer  # type: ignore[no-any-return]


def flatten(
    optimizer: torch.optim.Optimizer, flat: FlatModel, held: Mapping[str, nn.Parameter], first: int
) -> None:
    """Put an optimizer, group by group, on flat tensors; `first` is the number of its first group.

    It is built anew, as some make their state in the constructor; the object stays the same.
    """
    kind = type(optimizer)
    groups = [
        group | {"params": [held[name] for name in flat.names_of_group(first + index)]}
        for index, group in enumerate(optimizer.param_groups)
    ]
    # what a base class takes (`decoupled_weight_decay`) comes with the groups
    taken = inspect.signature(kind).parameters
    stated = {name: value for name, value in optimizer.defaults.items() if name in taken}
    flattened: torch.optim.Optimizer = kind(groups, **stated)
    for group, new in zip(optimizer.param_groups, flattened.param_groups, strict=True):
        group.update(new)  # the same mapping, which a scheduler may hold
    optimizer.state = flattened.state


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
    """The learning rate of every group: what the group began with, times the scheduler's factor.

    A scheduler that gives a mapping, such as {"lr": 0.5, "weight_decay": 0.1}, sets these keys.
    """

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
        self._initial = [dict(group) for group in self._groups]
        self._factor = 1.0
        self._tensors = any(isinstance(group["lr"], Tensor) for group in self._groups)

    def set(self, factor: float | Mapping[str, float]) -> None:
        """Set every group's rate, or the keys of a mapping, to their first values times a factor.

        Raises Refusal if a group has no number under a key.
        """
        # to ask any value whether it is a mapping costs more than all below
        if type(factor) is not float and isinstance(factor, Mapping):
            for key, of_key in factor.items():
                if key != "lr":
                    self._set_key(key, of_key)
            # saigen: constant, because what is not named stays as it is
            factor = factor.get("lr", 1.0)
        for group, rate in self._rates:
            if self._tensors and isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * factor)
            else:
                group["lr"] = rate * factor
        self._factor = factor

    def _set_key(self, key: str, factor: float) -> None:
        for group, initial in zip(self._groups, self._initial, strict=False):
            value = initial.get(key)
            if isinstance(value, int | float):
                group[key] = value * factor
            elif isinstance(value, tuple | list):  # Adam's betas: the first one is the momentum
                group[key] = (value[0] * factor, *value[1:])
            else:
                raise Refusal(
                    "the scheduler sets what the optimizer's groups do not have",
                    where=f"scheduler: {key!r}",
                    expected=f"a number among {', '.join(sorted(map(str, initial)))}",
                    got=repr(value),
                    fix="have the function give one of these keys",
                )

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


def guard_step(
    optimizer: torch.optim.Optimizer, is_first: Callable[[], bool], scale: LossScale | None
) -> None:
    """Put a step on the optimizer that says what went wrong, and leaves torch's compiler out.

    It is left out where the scale says so, which no closure can be.
    """
    unwatch(optimizer)
    bare, no_grad = bare_step(optimizer), torch.no_grad()

    def step(closure: Callable[[], object] | None = None) -> object:
        passed: list[Exception] = []
        if scale is not None and (scale.skips or closure is not None):
            if closure is not None:
                raise _closure_scaled(optimizer)
            return None
        try:
            with no_grad:
                return bare() if closure is None else bare(_watched(closure, passed))
        except Exception as error:
            if error in passed:
                raise
            raise failed_step(optimizer, error, first=is_first()) from error

    # torch's schedulers look for these two, else they warn or wrap the step
    setattr(step, WATCHED, True)
    vars(optimizer).update(step=step, _opt_called=True)


def _watched(closure: Callable[[], object], errors: list[Exception]) -> Callable[[], object]:
    """A closure whose errors are told from those of the optimizer's step."""

    def watched() -> object:
        try:
            return closure()
        except Exception as error:
            errors.append(error)
            raise

    return watched


def failed_step(optimizer: torch.optim.Optimizer, error: Exception, *, first: bool) -> Refusal:
    """What to raise for an error of the optimizer's step, which may be the first one."""
    return (Refusal if first else Failure)(
        "the optimizer could not take its step",
        where=f"optimizer ({type(optimizer).__name__})",
        expected="a step over dense gradients" + ", by a closure" * _needs_closure(optimizer),
        got=f"{type(error).__name__}: {error}",
        fix="have trainer.loop call optimizer.step(closure), as docs/loop.md shows"
        if _needs_closure(optimizer)
        else "choose another optimizer, or other arguments for it",
    )


def _closure_scaled(optimizer: torch.optim.Optimizer) -> Refusal:
    return Refusal(
        "an optimizer that calls a closure cannot leave out a step",
        where=f"optimizer ({type(optimizer).__name__}), trainer.precision",
        expected="optimizer.step() without a closure where the loss is scaled",
        got="optimizer.step(closure) under float16",
        fix="set trainer.precision=bfloat16 (and trainer.grad_scaler=null), or float32",
    )


def step_without_frozen(optimizer: torch.optim.Optimizer, step_now: Callable[[], int]) -> None:
    """Let an optimizer that has groups to be thawed pass over them until their step."""
    if not any(THAWED_AT in group for group in optimizer.param_groups):
        return
    whole = optimizer.step

    def step(closure: Callable[[], object] | None = None) -> object:
        groups = optimizer.param_groups
        optimizer.param_groups = [g for g in groups if g.get(THAWED_AT, 0) <= step_now()]
        try:
            return whole() if closure is None else whole(closure)  # type: ignore[arg-type]
        finally:
            optimizer.param_groups = groups

    setattr(step, WATCHED, True)
    vars(optimizer).update(step=step, _opt_called=True)


def _dtype(rate: float | Tensor) -> torch.dtype:
    return rate.dtype if isinstance(rate, Tensor) else torch.float64


def _refuse_unfit(optimizer: object, call: Call) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        got, expected = type(optimizer).__name__, "a torch.optim.Optimizer"
    elif isinstance(optimizer, torch.optim.SparseAdam):
        got = "an optimizer that takes sparse gradients only"
        expected = "one that takes dense gradients, which is how microbatches are summed"
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
