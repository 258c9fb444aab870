"""The three sums that travel with the gradients: of losses, of terms, of wishes to stop."""

import torch


class Sums:
    """A view on the float64 scalars of a leaf, written for a microbatch, read for a step.

    On the CPU through NumPy's view of the same memory (0.1 us a number instead of 2); elsewhere
    in one copy, so that nothing waits for the device.
    """

    def __init__(self, scalars: torch.Tensor) -> None:
        self._scalars = scalars
        self._host = scalars.numpy() if scalars.device.type == "cpu" else None

    def put(self, loss: torch.Tensor, terms: int | torch.Tensor, *, asked_to_stop: bool) -> None:
        """Write what one microbatch adds."""
        if self._host is not None:
            self._host[:] = (float(loss.detach()), float(terms), float(asked_to_stop))
            return
        self._scalars[0] = loss.detach()
        self._scalars[1] = terms
        self._scalars[2] = float(asked_to_stop)

    @property
    def terms(self) -> float | torch.Tensor:
        """What the summed gradients are divided by; a tensor () where reading it would wait."""
        return float(self._host[1]) if self._host is not None else self._scalars[1]

    @property
    def pair(self) -> torch.Tensor:
        """The sums of losses and of terms, (2,) float64, on the device."""
        return self._scalars[:2]

    @property
    def loss(self) -> float:
        """The mean loss of the step; waits for the device."""
        if self._host is not None:
            return float(self._host[0] / self._host[1])
        return float(self._scalars[0] / self._scalars[1])

    @property
    def asked_to_stop(self) -> bool:
        """Whether any process was asked to stop; waits for the device."""
        return bool(self._scalars[2] > 0) if self._host is None else self._host[2] > 0
