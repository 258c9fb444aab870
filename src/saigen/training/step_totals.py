"""The sums that travel with the gradients: of losses, of terms, of wishes to stop, and of the
components of the loss that have a name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from saigen.errors import Failure
from saigen.training import misuse

FIXED = 3  # loss, terms, wishes to stop


class StepTotals:
    """A view on the float64 scalars of a gradient buffer, written for a microbatch, read for a
    step.

    On the CPU through NumPy's view of the same memory (0.1 us a number instead of 2); elsewhere
    nothing waits for the device: whether to stop is known a step later, when that is copied.
    """

    def __init__(self, scalars: torch.Tensor, components: Sequence[str]) -> None:
        """`components` names what stands behind the three sums."""
        self._scalars, self._components = scalars, list(components)
        self.on_host = scalars.device.type == "cpu"
        self._read: Any = scalars.numpy() if self.on_host else scalars
        self.empty: list[int] = []  # steps in which no term counted, as far as known
        if not self.on_host:
            self._copies = [torch.zeros_like(scalars, device="cpu").pin_memory() for _ in range(2)]
            self._copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def put(
        self,
        loss: torch.Tensor,
        terms: int | torch.Tensor,
        components: Mapping[str, torch.Tensor] | None,
        *,
        asked_to_stop: bool,
    ) -> None:
        """Write what one microbatch adds. Raises Refusal if it has other components."""
        if components or self._components:
            refuse_other_components(components, self._components)
            for place, name in enumerate(self._components, FIXED):
                self._scalars[place] = (components or {})[name]
        if self.on_host:
            self._read[:FIXED] = (float(loss.detach()), float(terms), float(asked_to_stop))
            return
        self._scalars[0] = loss.detach()
        if isinstance(terms, torch.Tensor):
            self._scalars[1] = terms
        else:
            self._scalars[1].fill_(terms)  # to assign a number takes a copy besides
        if asked_to_stop:  # a gradient buffer begins with zeros
            self._scalars[2].fill_(1)

    def settle(self, step: int) -> None:
        """Look at the totals of a step before its update (0.3 us; nothing waits for a device).

        Where no term counted the mean is 0, and so is its gradient. Raises Failure if the loss is
        not finite or the count below zero.
        """
        if not self.on_host:
            self._scalars[1].masked_fill_(self._scalars[1] == 0, 1)
            self._copies.reverse()
            self._copied.reverse()
            self._copies[0].copy_(self._scalars, non_blocking=True)
            self._copied[0].record()
            return
        count = self._read[1]
        if count > 0:
            finite(self._read[0], step)
        elif count == 0 and self._read[0] == 0:
            self.empty.append(step)
            self._read[1] = 1
        else:
            finite(self._read[0], step)
            raise Failure(
                f"the loss is over {count:g} terms at step {step}",
                where=f"step {step}",
                expected="a count above 0, or a sum of 0 over none",
                got=f"{self._read[0]:g} over {count:g}",
                fix="have the task's loss count the terms that it sums",
            )

    def warnings(self) -> list[str]:
        """What there is to say of steps without a term."""
        if not self.empty:
            return []
        return [f"no term of the loss counted in {len(self.empty)} steps, first in {self.empty[0]}"]

    def totals(self) -> torch.Tensor:
        """A copy of the sums as they stand, (3 and one a component,) float64."""
        return self._scalars.clone()

    def put_totals(self, totals: torch.Tensor) -> None:
        """Put sums back."""
        self._scalars.copy_(totals)

    @property
    def terms(self) -> float | torch.Tensor:
        """What the summed gradients are divided by; a tensor () where reading it would wait."""
        return float(self._read[1]) if self.on_host else self._scalars[1]

    @property
    def loss(self) -> float:
        """The mean loss of the step; waits for the device."""
        return float(self._read[0] / self._read[1])

    @property
    def components(self) -> list[float]:
        """The means of the named components over the step; waits for the device."""
        return (self._scalars[FIXED:] / self._scalars[1]).tolist() if self._components else []

    @property
    def loss_there(self) -> torch.Tensor:
        """The same on the device, () float64."""
        return self._scalars[0] / self._scalars[1]

    @property
    def asked_to_stop(self) -> bool:
        """Whether any process was asked to stop; on a device, in the step before, which is all that
        this waits for.
        """
        if self.on_host:
            return bool(self._read[2] > 0)
        self._copied[1].synchronize()
        return bool(self._copies[1][2] > 0)


def refuse_other_components(
    found: Mapping[str, Any] | None, expected: Sequence[str], where: str = "step.backward"
) -> None:
    """Raise Refusal unless the loss has just the components that the config names."""
    names = list(found or ())
    if sorted(names) != sorted(expected):
        raise misuse.other_components(names, list(expected), where)


def finite(loss: float, step: int) -> float:
    """The loss of a step. Raises Failure if it is not a finite number."""
    if math.isfinite(loss):
        return loss
    raise Failure(
        f"loss is {'NaN' if math.isnan(loss) else loss} at step {step}",
        where=f"step {step}",
        expected="a finite loss",
        got=str(loss),
        fix="lower optimizer.lr, set trainer.max_grad_norm, or look for NaN in the data",
    )
