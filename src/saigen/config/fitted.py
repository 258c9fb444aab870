"""Fitted values in a config: `fitted:NAME` stands for a number that the preparation has fitted.

So the size of a vocabulary flows into the model from where it was counted. The config layer holds
the name; the number is part of the data layer, by the digest of the array `fitted/NAME.npy`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from saigen.config.keys import leaves
from saigen.config.schema import Config
from saigen.errors import Refusal

_VALUE = re.compile(r"fitted:([A-Za-z_][A-Za-z0-9_]*)")


def is_fitted(value: Any) -> bool:
    """Whether a value of the config stands for a fitted one."""
    return isinstance(value, str) and _VALUE.fullmatch(value) is not None


def refuse_unfitted(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Raise Refusal if a part of the config that is read before anything is fitted names such."""
    for key, value in leaves(values):
        if is_fitted(value) and key.partition(".")[0] == "prepare":
            raise Refusal(
                "the preparation cannot know what it has not fitted yet",
                where=where(key),
                expected="a value",
                got=value,
                fix=f"state the value of {key}",
            )


def fitted_values(config: Config, fitted: Mapping[str, Any]) -> dict[str, int | float]:
    """The number for each key of the config that stands for one. Raises Refusal if none was fitted
    under its name, or it is no single number.
    """
    named = {key: value for key, value in leaves(config.model_dump(mode="json"))
             if is_fitted(value)}  # fmt: skip
    found: dict[str, int | float] = {}
    for key, value in named.items():
        array = fitted.get(value.partition(":")[2])
        if array is None or array.size != 1 or array.dtype.kind not in "iuf":
            raise Refusal(
                f"{value} is no number that the preparation has fitted",
                where=key,
                expected=f"one of {', '.join(_numbers(fitted)) or 'none: it fits no number'}",
                got="no such array" if array is None else f"{array.dtype} of shape {array.shape}",
                fix="have `fit` of the preparation give an array of one number under this name",
            )
        found[key] = array.item()
    return found


def filled(config: Config, fitted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of a config with the numbers that were fitted in their places; None where it names
    none.
    """
    if not (numbers := fitted_values(config, fitted)):
        return None
    values: dict[str, Any] = _filled(config.model_dump(mode="json"), "", numbers)
    return values


def _filled(value: Any, key: str, numbers: Mapping[str, int | float]) -> Any:
    at = f"{key}." if key else ""
    if isinstance(value, dict):
        return {name: _filled(part, f"{at}{name}", numbers) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, f"{at}{n}", numbers) for n, part in enumerate(value)]
    return numbers.get(key, value)


def _numbers(fitted: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, array in fitted.items() if array.size == 1)
