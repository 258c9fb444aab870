"""What `exact` costs on a GPU: python bench/gpu.py [--rounds N]. Not yet run on one.

A decoder of some 100 million weights under the switches of `exact` and of `statistical`, in bf16
and in float32, and what the fingerprint of weights and gradients adds. Both sides do the same
step, by turns; a ratio is taken within a round.
"""

import argparse
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from saigen.recipe.composer.compose import compose
from saigen.training import settings
from saigen.training.fingerprint import Fingerprint
from saigen.training.flat import FlatModel

LEAST_ROUNDS = 7
WIDTH, BLOCKS, HEADS, TOKENS, BATCH, PLACES, STEPS = 768, 12, 12, 16_384, 16, 512, 10


class Decoder(nn.Module):
    """(B, T) of tokens -> (B, T, TOKENS) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, BLOCKS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], tokens.device)
        found: torch.Tensor = self.head(self.blocks(self.embedding(tokens), mask, is_causal=True))
        return found


class Work:
    """Steps of one model on fixed tokens."""

    def __init__(self, precision: torch.dtype) -> None:
        torch.manual_seed(0)
        self.precision, self.model = precision, Decoder().cuda()
        self.flat = FlatModel(self.model, scalars=3, multiple=64, microbatches=1)
        held = self.flat.held(one_tensor=True).values()
        self.optimizer = torch.optim.AdamW(held, lr=1e-4, fused=True)
        self.tokens = torch.randint(TOKENS, (BATCH, PLACES + 1), device="cuda")
        self.traced = [Fingerprint(self.flat.gradients), Fingerprint(self.flat.weights)]

    def seconds(self, *, traced: bool) -> float:
        """Of one step, over STEPS of them."""
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            self.flat.leaf.zero_()
            with torch.autocast("cuda", self.precision, enabled=self.precision != torch.float32):
                scores = self.model(self.tokens[:, :-1])
            cross_entropy(scores.flatten(0, 1), self.tokens[:, 1:].flatten()).backward()
            self.optimizer.step()
            if traced:
                for number, fingerprint in enumerate(self.traced):
                    fingerprint.on_device(signs=number == 0)
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / STEPS


def under(agreement: str, work: Work, *, traced: bool) -> float:
    """Seconds a step under the switches of an agreement."""
    settings.apply(compose((f"agreement={agreement}", "hardware=cuda")).config)
    return work.seconds(traced=traced)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    assert rounds >= LEAST_ROUNDS, f"at least {LEAST_ROUNDS} rounds"
    if not torch.cuda.is_available():
        sys.exit("NOT MEASURED: there is no CUDA device")
    settings.start_again_if_needed(compose(("hardware=cuda",)).config)
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}")
    for precision in (torch.bfloat16, torch.float32):
        work = Work(precision)
        weights = sum(parameter.numel() for parameter in work.model.parameters())
        for agreement in ("exact", "statistical"):
            under(agreement, work, traced=True)
        times = [
            (
                under("statistical", work, traced=False),
                under("exact", work, traced=False),
                under("exact", work, traced=True),
            )
            for _ in range(rounds)
        ]
        fast, exact, traced = (
            1e3 * statistics.median(column) for column in zip(*times, strict=True)
        )
        price = statistics.median(b / a for a, b, _ in times)
        added = statistics.median(c / b for _, b, c in times)
        print(f"{weights / 1e6:.0f} M weights, {precision}: statistical {fast:.1f} ms a step,")
        print(
            f"  exact {exact:.1f} ({price:.3f} times), with fingerprints {traced:.1f} ({added:.3f})"
        )
    print(f"again: python {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
