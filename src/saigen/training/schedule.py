"""What multiplies the learning rate: functions of the step number, so that nothing is restored."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from saigen.config.schema import NonNegative
from saigen.errors import Refusal

_LOOKS = 1000  # looking moves no bit
Share = Annotated[float, Field(ge=0, le=1)]


def constant(step: int, total_steps: int, *, warmup_steps: NonNegative) -> float:  # noqa: ARG001
    """1 after a linear warm-up. `step` counts from 0."""
    return _warmup(step, warmup_steps)


def cosine(
    step: int, total_steps: int, *, warmup_steps: NonNegative, final_fraction: Share
) -> float:
    """Half a cosine from 1 down to `final_fraction` at the last step, after a linear warm-up.

    Loshchilov and Hutter, SGDR (2017), without restarts. `step` counts from 0.
    """
    if step < warmup_steps:
        return _warmup(step, warmup_steps)
    done = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def refuse_schedule(multiplier: Callable[[int, int], Any], total_steps: int, target: str) -> None:
    """Raise Refusal if the rates of a run would not be numbers: looked at in its first steps, its
    last one, and evenly between.
    """
    apart = max(1, total_steps // _LOOKS)
    for step in (*range(min(_LOOKS, total_steps)), *range(0, total_steps, apart), total_steps - 1):
        try:
            found = multiplier(step, total_steps)
            values = found.values() if isinstance(found, Mapping) else [found]
            if all(map(math.isfinite, values)):
                continue
            got = str(found)
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            got = f"{type(error).__name__}: {error}"
        raise Refusal(
            "the scheduler gives no finite number",
            where=f"scheduler: {target}, at step {step} of {total_steps}",
            expected="a finite number for each step",
            got=got,
            fix="change the function, or the arguments that the config gives it",
        )
