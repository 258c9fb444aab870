"""Measure a model on a split: fixed batches, no randomness, predictions kept bit for bit."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from saigen.training.loading import Dataset, fetch, to_device


class Task(Protocol):
    """What `project/task.py` provides."""

    def forward(self, model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> Any:
        """The model's outputs for a batch."""

    def loss(self, outputs: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
        """A sum over the batch, and over how many terms; the loss is the quotient of the sums."""

    def predictions(self, outputs: Any) -> dict[str, torch.Tensor]:
        """Tensors of one row a sample."""

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """Numbers over a whole split."""


@torch.inference_mode()
def predict(
    model: torch.nn.Module,
    task: Task,
    dataset: Dataset,
    *,
    batch_examples: int,
    device: torch.device,
    precision: torch.dtype,
) -> dict[str, np.ndarray]:
    """Predictions for every sample, in order.

    Every forward pass has `batch_examples` rows, the last one filled up by repeating samples,
    so that a row's bits do not depend on how many rows stand in the file.
    """
    was_training = model.training
    model.eval()
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(dataset), batch_examples):
        rows = np.arange(start, start + batch_examples)
        batch = to_device(fetch(dataset, rows % len(dataset)), device)
        enabled = precision != torch.float32
        with torch.autocast(device.type, dtype=precision, enabled=enabled):
            outputs = task.forward(model, batch)
        for name, tensor in task.predictions(outputs).items():
            kept = tensor[: len(dataset) - start].cpu().numpy()
            parts.setdefault(name, []).append(kept)
    model.train(was_training)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
