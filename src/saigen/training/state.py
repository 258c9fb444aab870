"""The state of a run between two steps: what a checkpoint holds, and how it is put back."""

from collections.abc import Mapping
from typing import Any

import torch

from saigen.training.flat import FlatModel
from saigen.training.optimizer_state import export_state, import_state
from saigen.training.selection import Selection


class RunState:
    """Model, optimizer and selection as named tensors and JSON values. No generator state: what
    is random is a function of the step.
    """

    def __init__(
        self,
        flat: FlatModel,
        optimizer: torch.optim.Optimizer,
        names: Mapping[str, torch.Tensor],
        selection: Selection,
    ) -> None:
        """`names` says what to call each parameter that the optimizer holds."""
        self._flat, self._optimizer, self._names = flat, optimizer, names
        self._selection = selection

    def export(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors, which are the run's own memory, and values."""
        tensors = {f"model.{name}": tensor for name, tensor in self._flat.tensors().items()}
        tensors |= {f"best.{name}": t for name, t in self._selection.tensors.items()}
        state, numbers = export_state(self._optimizer, self._names)
        tensors |= {f"optimizer.{name}": tensor for name, tensor in state.items()}
        return tensors, {"optimizer": numbers, "selection": self._selection.values()}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """The inverse of `export`. Raises Refusal where a tensor does not fit."""

        def part(head: str) -> dict[str, torch.Tensor]:
            return {n.removeprefix(head): t for n, t in tensors.items() if n.startswith(head)}

        self._flat.load(part("model."))
        import_state(self._optimizer, self._names, part("optimizer."), values["optimizer"])
        self._selection.restore(values["selection"], part("best."))
