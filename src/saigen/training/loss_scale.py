"""Loss scaling for float16: the state of torch's GradScaler, under the fixed tree.

The loss is multiplied before each backward pass and the sum of gradients divided again. Where that
sum is not finite the optimizers' step is left out and the scale lowered; after a number of steps
without one it is raised. Every process looks at the same sum, so all decide alike; the state is
kept in checkpoints and traced like that of any part. As with torch's, a step waits for the device.
"""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from saigen.config.schema import GradScaler
from saigen.documents import Count, Document, conform
from saigen.errors import Failure


class _State(Document):
    scale: float
    growth_tracker: Count


_LEAST = 2.0**-60  # a scale below that is no help to any gradient


class LossScale:
    """The scale of one run; `skips` tells that the gradients of the last walk were not finite."""

    def __init__(self, config: GradScaler) -> None:
        self._config, self.scale = config, config.init_scale
        self._good_steps, self._overflowed, self.skips = 0, False, False

    def look(self, gradients: Sequence[Tensor]) -> None:
        """Look at a sum of gradients; one that is not finite is set to zero."""
        self.skips = not all(bool(gradient.isfinite().all()) for gradient in gradients)
        self._overflowed |= self.skips
        for gradient in gradients if self.skips else ():
            gradient.zero_()

    def update(self) -> None:
        """Move the scale at the end of a step, as `torch.amp.GradScaler.update` does."""
        config = self._config
        self._good_steps += 1
        if self._overflowed:
            self.scale, self._good_steps = self.scale * config.backoff_factor, 0
        elif self._good_steps == config.growth_interval:
            self.scale, self._good_steps = self.scale * config.growth_factor, 0
        self._overflowed = self.skips = False
        if not _LEAST < self.scale < math.inf:
            raise Failure(
                f"the loss cannot be scaled by {self.scale}",
                where="trainer.grad_scaler",
                expected="gradients that are finite at some scale, and not at every one",
                got="a scale that was lowered or raised again and again",
                fix="look for what is not finite at any scale, or set trainer.precision=bfloat16 "
                "and trainer.grad_scaler=null",
            )

    def state_dict(self) -> dict[str, Any]:
        """The scale, and how many steps it has held."""
        return {"scale": self.scale, "growth_tracker": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        conform(state, _State)
        self.scale, self._good_steps = state["scale"], state["growth_tracker"]


def scaled(terms: float | Tensor, scale: LossScale | None) -> float | Tensor:
    """What summed gradients are divided by."""
    return terms if scale is None else terms * scale.scale
