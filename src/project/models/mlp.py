"""A network of one hidden layer."""

import torch
from torch import nn


class MLP(nn.Module):
    """inputs -> hidden -> outputs, with GELU and dropout between."""

    def __init__(self, *, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, inputs) -> (B, outputs)."""
        scores: torch.Tensor = self.layers(inputs)
        return scores
