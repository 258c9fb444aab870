"""A small convolutional network for square grey images."""

import torch
from torch import nn


class CNN(nn.Module):
    """Two convolutions that keep the size, a pooling after each, and a linear layer."""

    def __init__(
        self,
        *,
        side: int,
        channels: int,
        kernel_pixels: int,
        pooling_pixels: int,
        outputs: int,
        dropout: float,
        batch_norm: bool,
        norm_epsilon: float,
        norm_momentum: float,
    ) -> None:
        super().__init__()
        self.side = side

        def block(incoming: int, outgoing: int) -> list[nn.Module]:
            convolution = nn.Conv2d(incoming, outgoing, kernel_pixels, padding=kernel_pixels // 2)
            norm = nn.BatchNorm2d(outgoing, eps=norm_epsilon, momentum=norm_momentum)
            layers = [convolution, norm] if batch_norm else [convolution]
            return [*layers, nn.GELU(), nn.MaxPool2d(pooling_pixels)]

        self.layers = nn.Sequential(
            *block(1, channels),
            *block(channels, 2 * channels),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * (side // pooling_pixels**2) ** 2, outputs),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, side * side) -> (B, outputs)."""
        scores: torch.Tensor = self.layers(inputs.view(-1, 1, self.side, self.side))
        return scores
