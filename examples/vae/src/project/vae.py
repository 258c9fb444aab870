"""A variational autoencoder of digits (Kingma and Welling, 2013), as in pytorch/examples/vae."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = Mapping[str, Tensor]
Outputs = tuple[Tensor, Tensor, Tensor, Tensor]


class VAE(nn.Module):
    """Encodes an image as a normal distribution over `latent` numbers, and decodes a draw of it."""

    def __init__(self, *, inputs: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, inputs)
        )

    def forward(self, images: Tensor) -> Outputs:
        """Reconstruction, mean, logarithm of the variance, and an image decoded from chance."""
        encoded = self.encoder(images)
        mean, log_variance = self.mean(encoded), self.log_variance(encoded)
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        chance: Tensor = self.decoder(torch.randn_like(mean))
        return self.decoder(code), mean, log_variance, chance


class Reconstruction:
    """The evidence lower bound: squared error plus divergence from the unit normal."""

    def forward(self, model: nn.Module, batch: Batch) -> Outputs:
        """What the model gives for the images."""
        outputs: Outputs = model(batch["inputs"])
        return outputs

    def loss(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, int, dict[str, Tensor]]:
        """The sum over the batch, over how many images, and its two parts."""
        images, mean, log_variance, _ = outputs
        error = 0.5 * functional.mse_loss(images, batch["inputs"], reduction="sum")
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return error + divergence, len(images), {"error": error, "divergence": divergence}

    def predictions(self, outputs: Outputs) -> dict[str, Tensor]:
        """`image`, the reconstruction, and `sample`, an image of nothing, (B, 64) each."""
        return {"image": outputs[0], "sample": outputs[3]}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`error`, the mean squared error of a pixel."""
        squares = np.square(predictions["image"].astype(np.float64) - targets["inputs"])
        return {"error": float(squares.mean())}
