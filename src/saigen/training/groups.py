"""Parameter groups: which parameters share a learning rate, a weight decay, and so on, by rules."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from saigen.config.allowlist import allowed_modules, resolve
from saigen.config.schema import GroupRule
from saigen.errors import Refusal
from saigen.training.flat import trainable

_WHERE = "optimizer.parameter_groups"
THAWED_AT = "thawed_at_step"  # the key of a group that is not trained before a step


def parameter_groups(model: nn.Module, rules: Sequence[Any]) -> list[Any]:
    """The trainable parameters of a module as torch's parameter groups: the first rule that fits a
    parameter takes it, the others make a group of their own, which comes first.

    Rules that freeze do so at once. Raises Refusal if a rule fits nothing.
    """
    checked = [_checked(rule, f"{_WHERE}.{number}") for number, rule in enumerate(rules)]
    taken: list[list[nn.Parameter]] = [[] for _ in checked]
    left: list[nn.Parameter] = []
    owners = _owners(model)
    for name, parameter in trainable(model).items():
        fits = (n for n, rule in enumerate(checked) if _fits(rule, name, owners[id(parameter)]))
        if (number := next(fits, None)) is None:
            left.append(parameter)
        elif checked[number].frozen is True:
            parameter.requires_grad_(False)
            taken[number].append(parameter)
        else:
            taken[number].append(parameter)
    for number, (rule, own) in enumerate(zip(checked, taken, strict=True)):
        if not own:
            raise Refusal(
                "a rule for parameter groups fits no parameter",
                where=f"{_WHERE}.{number}",
                expected=f"names such as {', '.join(list(trainable(model))[:3])}, or types of "
                "modules that hold parameters",
                got=f"names {rule.names}, modules {rule.modules}",
                fix="change the rule, or take it out; one before it may have taken all",
            )
    if not checked:
        return left
    groups: list[Any] = [{"params": left}] if left else []
    return groups + [
        {"params": own, **rule.options} | ({THAWED_AT: rule.frozen} if rule.frozen else {})
        for rule, own in zip(checked, taken, strict=True)
        if rule.frozen is not True
    ]


def _checked(rule: Any, where: str) -> GroupRule:
    try:
        return GroupRule.model_validate(rule)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(
            "a rule for parameter groups cannot be read",
            where=".".join([where, *map(str, first["loc"])]),
            expected="names: [patterns], modules: [types], frozen: true, false or a step, "
            "options: {...}",
            got=first["msg"],
            fix="write all four, empty where there is nothing: "
            "{names: ['*.bias'], modules: [], frozen: false, options: {weight_decay: 0.0}}",
        ) from error


def _fits(rule: GroupRule, name: str, owners: Sequence[nn.Module]) -> bool:
    allowed = allowed_modules(Path.cwd())
    kinds = tuple(resolve(kind, allowed, _WHERE) for kind in rule.modules)
    named = any(fnmatchcase(name, pattern) for pattern in rule.names)
    return named or any(isinstance(owner, kinds) for owner in owners)  # type: ignore[arg-type]


def _owners(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that hold each parameter themselves; several where it is shared."""
    owners: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(module)
    return owners
