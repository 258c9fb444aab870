"""Pairs of digits: one of a kind or not, as in pytorch/examples/siamese_network."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = Mapping[str, Tensor]
Pair = tuple[np.ndarray, np.ndarray, np.float32]


class Pairs:
    """Each digit with another one that is drawn: every second time one of its own class."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.images, self.labels = arrays["inputs"], np.asarray(arrays["targets"])

    def __len__(self) -> int:
        """How many digits there are."""
        return len(self.labels)

    def __getitem__(self, index: int, generator: np.random.Generator) -> Pair:
        """Two images (64,), and whether they are of one class."""
        same = self.labels == self.labels[index]
        other = generator.choice(np.flatnonzero(same if generator.random() < 0.5 else ~same))
        return self.images[index], self.images[other], np.float32(same[other])


class Neighbours(Pairs):
    """Each digit with the one before it, to measure: nothing is drawn."""

    def __getitem__(self, index: int) -> Pair:  # type: ignore[override]
        """Two images (64,), and whether they are of one class."""
        same = np.float32(self.labels[index] == self.labels[index - 1])
        return self.images[index], self.images[index - 1], same


class Siamese(nn.Module):
    """One network for both images, and a score of how alike their codes are."""

    def __init__(self, *, inputs: int, hidden: int, code: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, code))
        self.head = nn.Sequential(nn.Linear(2 * code, code), nn.ReLU(), nn.Linear(code, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Scores (B,) before the sigmoid, whichever of the two comes first."""
        one, two = self.network(first), self.network(second)
        score: Tensor = self.head(torch.cat([one * two, (one - two).abs()], dim=1))
        return score[:, 0]


class SameClass:
    """Whether two digits are of one class."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scores (B,)."""
        scores: Tensor = model(batch["first"], batch["second"])
        return scores

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """Binary cross entropy, summed, and over how many pairs."""
        total = functional.binary_cross_entropy_with_logits(outputs, batch["same"], reduction="sum")
        return total, len(outputs)

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        """`same` (B,): how likely the digit and the one before it are of one class."""
        return {"same": outputs.float().sigmoid()}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`accuracy`, the mean of the shares that are right among equal and unequal pairs."""
        same = targets["targets"] == np.roll(targets["targets"], 1)
        right = (predictions["same"] > 0.5) == same
        return {"accuracy": (int(right[same].sum()) / max(1, int(same.sum()))
                             + int(right[~same].sum()) / int((~same).sum())) / 2}  # fmt: skip
