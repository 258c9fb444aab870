"""What multiplies the learning rate: functions of the step number, so that nothing is restored."""

import math
from typing import Annotated

from pydantic import Field

from saigen.recipe.schema import NonNegative

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
