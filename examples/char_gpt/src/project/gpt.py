"""A character-level GPT in nanoGPT's form: windows of a text, and each next character."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from saigen.data.preparation import Arrays, Table

Batch = Mapping[str, Tensor]


class Windows:
    """Cuts a text into windows; the characters of the training windows are the vocabulary."""

    def __init__(self, *, block_size: int, stride: int) -> None:
        self.block_size, self.stride = block_size, stride

    def read(self, path: Path) -> Table:
        """Windows of one character more than a block, and where each begins."""
        codes = np.array([ord(character) for character in path.read_text(encoding="utf-8")])
        starts = np.arange(0, len(codes) - self.block_size, self.stride)
        windows = codes[starts[:, None] + np.arange(self.block_size + 1)]
        ids = tuple(f"at-{start:08d}" for start in starts.tolist())
        return Table(ids=ids, columns={"codes": windows, "start": starts})

    def fit(self, train: Table) -> Arrays:
        """`vocabulary`, sorted, and its size with a token for what is unknown."""
        vocabulary = np.unique(train.columns["codes"])
        return {"vocabulary": vocabulary, "vocabulary_size": np.array(len(vocabulary) + 1)}

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:
        """`inputs` and `targets` (rows, block) int64: tokens, and each next one; 0 is unknown."""
        known, codes = fitted["vocabulary"], table.columns["codes"]
        places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        tokens = np.where(known[places] == codes, places + 1, 0)
        return {"inputs": tokens[:, :-1].copy(), "targets": tokens[:, 1:].copy()}


class Blocks:
    """Reads many windows at once, as a tuple (x, y)."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.x, self.y = arrays["inputs"], arrays["targets"]

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.x)

    def __getitems__(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and each next one, (B, block) int64."""
        return self.x[indices], self.y[indices]


class Block(nn.Module):
    """Causal self-attention and two layers, each behind a norm and added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList([nn.LayerNorm(width, eps=1e-5) for _ in range(2)])
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape (B, T, width)."""
        parts = self.attention(self.norms[0](x)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        dropped = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=True)
        x = x + self.projection(mixed.transpose(1, 2).flatten(2))
        added: Tensor = x + self.layers(self.norms[1](x))
        return added


class GPT(nn.Module):
    """Token and position embeddings, blocks, and scores by the embedding's own weights."""

    def __init__(
        self, *, vocabulary: int, block_size: int, width: int, heads: int, depth: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block_size, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.tokens.weight = self.head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores (B, T, vocabulary)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        scores: Tensor = self.head(
            self.norm(self.blocks(self.tokens(tokens) + self.places(places)))
        )
        return scores


class NextCharacter:
    """Cross entropy of the next character."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scores (B, T, vocabulary)."""
        scores: Tensor = model(batch["inputs"])
        return scores

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The sum in nats, and over how many characters."""
        targets = batch["targets"]
        total = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")
        return total, targets.numel()

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        """`token` (B, T): the likeliest next character."""
        return {"token": outputs.argmax(dim=2)}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`accuracy`, the share of right characters."""
        return {"accuracy": float((predictions["token"] == targets["targets"]).mean())}
