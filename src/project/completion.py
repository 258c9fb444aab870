"""The task of filling in an answer: every character of it is predicted, each has its loss."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

Batch = Mapping[str, torch.Tensor]

_IGNORED = -1  # no token: a place that has no loss


class Completion:
    """Fills the holes at the end of a text, all at once.

    What is counted is the answer's own characters and the one "nothing" that ends it; places
    behind the end have no loss, so that a batch of 32 texts has between 64 and 96 terms. Token
    `nothing` stands where there is no character.
    """

    def __init__(self, *, answer_characters: int, nothing: int, label_smoothing: float) -> None:
        self.answer_characters = answer_characters
        self.nothing = nothing
        self.label_smoothing = label_smoothing

    def forward(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Scores (B, answer characters, tokens) of a batch."""
        scores: torch.Tensor = model(batch["inputs"])
        return scores[:, -self.answer_characters :]

    def loss(self, outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy in nats, summed over the counted characters, and how many these are: a
        tensor () on a device, which nobody has to wait for.
        """
        targets = batch["targets"]
        counted = torch.ones_like(targets, dtype=torch.bool)
        counted[:, 1:] = targets[:, :-1] != self.nothing
        total = functional.cross_entropy(
            outputs.flatten(0, 1),
            targets.masked_fill(~counted, _IGNORED).flatten(),
            ignore_index=_IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return total, counted.sum()

    def predictions(self, outputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """`token` (B, answer characters) int64: the likeliest for each place."""
        return {"token": outputs.argmax(dim=2)}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`accuracy`, the share of answers that are right to the last character, and
        `character_accuracy`, the share of right characters among the counted ones.
        """
        wanted = targets["targets"]
        counted = np.ones_like(wanted, dtype=bool)
        counted[:, 1:] = wanted[:, :-1] != self.nothing
        right = predictions["token"] == wanted
        return {
            "accuracy": int((right | ~counted).all(axis=1).sum()) / len(wanted),
            "character_accuracy": int((right & counted).sum()) / int(counted.sum()),
        }
