"""A small transformer that reads a whole text of fixed length at once."""

import math

import torch
from torch import nn

PARTS = 3  # saigen: constant, because attention takes queries, keys and values


class Transformer(nn.Module):
    """Tokens and learned positions, `blocks` times attention and a two-layer network, scores.

    A token's score is the likeness of what was found to its embedding: one matrix, used twice.
    B texts of T characters in W features and H heads. Attention is written out: this is the path
    that has deterministic kernels on every device, and at T = 8 no other is faster.
    """

    def __init__(
        self,
        *,
        tokens: int,
        characters: int,
        width: int,
        heads: int,
        hidden: int,
        blocks: int,
        dropout: float,
        norm_epsilon: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Embedding(characters, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(Block(width, heads, hidden, dropout, norm_epsilon) for _ in range(blocks))
        )
        self.norm = nn.LayerNorm(width, norm_epsilon)
        self.scores = nn.Linear(width, tokens)
        # one Parameter (Press and Wolf, 2017): small, as a linear layer's, and scaled when read
        self.tokens.weight.data.div_(math.sqrt(width))
        self.scores.weight = self.tokens.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(B, T) int64 -> (B, T, tokens)."""
        read = self.tokens(inputs) * math.sqrt(self.tokens.embedding_dim)
        features = self.dropout(read + self.positions.weight)
        scores: torch.Tensor = self.scores(self.norm(self.blocks(features)))
        return scores


class Block(nn.Module):
    """Attention, then a network at each place; normalized before, added to what came in."""

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, norm_epsilon: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width, norm_epsilon)
        self.queries_keys_values = nn.Linear(width, PARTS * width)
        self.mix = nn.Linear(width, width)
        self.before_network = nn.LayerNorm(width, norm_epsilon)
        self.network = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, W) -> (B, T, W)."""
        features = features + self.dropout(self.attend(self.before_attention(features)))
        added: torch.Tensor = self.dropout(self.network(self.before_network(features)))
        return features + added

    def attend(self, features: torch.Tensor) -> torch.Tensor:
        """Every place looks at every other: (B, T, W) -> (B, T, W)."""
        batch, length, width = features.shape
        split = self.queries_keys_values(features).view(batch, length, PARTS, self.heads, -1)
        queries, keys, values = (part.transpose(1, 2) for part in split.unbind(dim=2))
        likeness = queries @ keys.mT / math.sqrt(width // self.heads)  # (B, H, T, T)
        looked_at = likeness.softmax(dim=-1) @ values
        mixed: torch.Tensor = self.mix(looked_at.transpose(1, 2).reshape(batch, length, width))
        return mixed
