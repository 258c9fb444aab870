"""The three sums that travel with the gradients: of losses, of terms, of wishes to stop."""

import math
from typing import Any

import torch

from saigen.refusal import Failure


class Sums:
    """A view on the float64 scalars of a leaf, written for a microbatch, read for a step.

    On the CPU through NumPy's view of the same memory (0.1 us a number instead of 2); elsewhere
    in one copy, so that nothing waits for the device.
    """

    def __init__(self, scalars: torch.Tensor) -> None:
        self._scalars = scalars
        self.on_host = scalars.device.type == "cpu"
        self._read: Any = scalars.numpy() if self.on_host else scalars

    def put(self, loss: torch.Tensor, terms: int | torch.Tensor, *, asked_to_stop: bool) -> None:
        """Write what one microbatch adds."""
        if self.on_host:
            self._read[:] = (float(loss.detach()), float(terms), float(asked_to_stop))
            return
        self._scalars[0] = loss.detach()
        self._scalars[1] = terms
        self._scalars[2] = float(asked_to_stop)

    @property
    def terms(self) -> float | torch.Tensor:
        """What the summed gradients are divided by; a tensor () where reading it would wait."""
        return float(self._read[1]) if self.on_host else self._scalars[1]

    @property
    def loss(self) -> float:
        """The mean loss of the step; waits for the device."""
        return float(self._read[0] / self._read[1])

    @property
    def loss_there(self) -> torch.Tensor:
        """The same on the device, () float64."""
        return self._scalars[0] / self._scalars[1]

    @property
    def asked_to_stop(self) -> bool:
        """Whether any process was asked to stop; waits for the device."""
        return bool(self._read[2] > 0)


def finite(loss: float, step: int) -> float:
    """The loss of a step. Raises Failure if it is not a number."""
    if math.isfinite(loss):
        return loss
    raise Failure(
        "the loss is not a number any more",
        where=f"step {step}",
        expected="a finite loss",
        got=str(loss),
        fix="lower optimizer.lr, set trainer.clip_gradient_norm, or look for NaN in the data",
    )
