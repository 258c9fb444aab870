"""What the model is trained for: the loss, what it predicts, and how that is measured."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

Batch = Mapping[str, torch.Tensor]


class Classification:
    """One of several classes for each input."""

    def __init__(self, *, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    def forward(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Scores (B, classes) of a batch."""
        scores: torch.Tensor = model(batch["inputs"])
        return scores

    def loss(self, outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, int]:
        """Cross entropy in nats, summed over the batch, and over how many terms it was summed."""
        total = functional.cross_entropy(
            outputs, batch["targets"], reduction="sum", label_smoothing=self.label_smoothing
        )
        return total, len(outputs)

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """`label` (B,) int64 and `probability` (B, classes) float32."""
        return {"label": outputs.argmax(dim=1), "probability": outputs.float().softmax(dim=1)}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`accuracy`, the share of right labels, and `log_loss` in nats, over one split."""
        right = predictions["label"] == targets["targets"]
        chosen = predictions["probability"][np.arange(len(right)), targets["targets"]]
        floor = float(np.finfo(np.float32).tiny)
        # libm's log and an exact sum: NumPy's depend on the processor's vector instructions
        losses = [-math.log(max(probability, floor)) for probability in chosen.tolist()]
        return {
            "accuracy": int(right.sum()) / len(right),
            "log_loss": math.fsum(losses) / len(losses),
        }
