"""What the model is trained for: the loss, what it predicts, and how that is measured."""

import math
from collections.abc import Mapping

import numpy as np
import torch

Batch = Mapping[str, torch.Tensor]


class Regression:
    """A number for each input. The model's output is in units of `scale` around `center`."""

    def __init__(self, *, center: float, scale: float) -> None:
        self.center, self.scale = center, scale

    def forward(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Numbers (B,) in the target's own unit."""
        outputs: torch.Tensor = model(batch["inputs"])
        return outputs[:, 0] * self.scale + self.center

    def loss(self, outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, int]:
        """Squared error in units of `scale`, summed over the batch, and over how many terms."""
        errors = (outputs - batch["targets"]) / self.scale
        return errors.square().sum(), len(outputs)

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """`value` (B,) float32."""
        return {"value": outputs.float()}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`rmse` and `mae`, the root of the mean squared and the mean absolute error."""
        pairs = zip(predictions["value"].tolist(), targets["targets"].tolist(), strict=True)
        errors = [value - target for value, target in pairs]
        mean_square = math.fsum(error * error for error in errors) / len(errors)
        return {
            "rmse": math.sqrt(mean_square),
            "mae": math.fsum(abs(error) for error in errors) / len(errors),
        }
