"""What `exact` costs a large model on a GPU: python bench/gpu.py [--rounds N] [--steps N].

Steps of a decoder of some 100 million weights, in bf16 and in float32: a bare loop as it is
usually written, and what Saigen does in a step (flat memory, its own clipping, a row of the trace),
each under the switches of `statistical` and of `exact`. They take turns; a ratio is taken within a
round. What comes once (checkpoints, validation) is left out.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from saigen.config.compose import compose
from saigen.environment import torch_flags as settings
from saigen.environment.optimizer_step import bare_step
from saigen.training.clipping import Clipping
from saigen.training.flat import FlatModel
from saigen.training.step_totals import StepTotals
from saigen.training.trace import Trace

LEAST_ROUNDS = 7
WIDTH, BLOCKS, HEADS, TOKENS, BATCH, PLACES = 768, 12, 12, 16_384, 64, 512
LONGEST = 1.0  # gradient
SWITCHES = {
    "statistical": ("reproducibility=statistical",),
    "exact": ("reproducibility=exact",),
    "exact, TF32": (
        "reproducibility.allow_tf32=true",
        "reproducibility.float32_matmul_precision=high",
    ),
}


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


def loss_of(model: nn.Module, tokens: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    with torch.autocast("cuda", precision, enabled=precision != torch.float32):
        scores = model(tokens[:, :-1])
    return cross_entropy(scores.flatten(0, 1).float(), tokens[:, 1:].flatten())


def bare(precision: torch.dtype, tokens: torch.Tensor) -> Callable[[], None]:
    """A step as a good engineer writes it."""
    torch.manual_seed(0)
    model = Decoder().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, tokens, precision).backward()
        nn.utils.clip_grad_norm_(model.parameters(), LONGEST)
        optimizer.step()

    return step


def saigen(precision: torch.dtype, tokens: torch.Tensor, folder: Path) -> Callable[[], None]:
    """What `saigen.training.loop` does in a step, with a row of the trace."""
    torch.manual_seed(0)
    flat = FlatModel(Decoder().cuda(), scalars=3, multiple=64, microbatches=1)
    optimizer = torch.optim.AdamW(flat.held(one_tensor=True).values(), lr=1e-4, fused=True)
    sums, clipping = StepTotals(flat.scalars, []), Clipping(flat.gradients, LONGEST)
    trace = Trace(folder, flat, sums, flush_steps=64, resumed_at=0, expected={}, in_depth=False)
    optimizer_step, numbers, samples = bare_step(optimizer), itertools.count(), np.arange(BATCH)

    def step() -> None:
        flat.grad_buffer.zero_()
        loss = loss_of(flat.model, tokens, precision)
        loss.backward()
        sums.put(loss, 1, None, asked_to_stop=False)
        number = next(numbers)
        with torch.no_grad():
            sums.settle(number)
            clipping.mean_and_clip(sums.terms)
            optimizer_step()
            trace.add(number, samples, optimizer)
        assert not sums.asked_to_stop

    return step


def seconds(step: Callable[[], None], steps: int) -> float:
    """Of one step, over `steps` of them."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def measure(precision: torch.dtype, rounds: int, steps: int, folder: Path) -> None:
    """Print a line for each loop and setting; the first is what the others are compared with."""
    tokens = torch.randint(TOKENS, (BATCH, PLACES + 1), device="cuda")
    loops = {"bare PyTorch": bare(precision, tokens), "saigen": saigen(precision, tokens, folder)}
    agreements = {a: compose((*chosen, "hardware=cuda")).config for a, chosen in SWITCHES.items()}
    times: dict[tuple[str, str], list[float]] = {
        pair: [] for pair in itertools.product(loops, SWITCHES)
    }
    order = list(times)
    for turn in range(rounds + 1):  # the first warms up
        shift = turn % len(order)
        for loop, reproducibility in order[shift:] + order[:shift]:
            settings.apply(agreements[reproducibility])
            seconds(loops[loop], 2)
            times[loop, reproducibility].append(seconds(loops[loop], steps))
    print(f"{precision}; median of {rounds} rounds (least .. most)")
    base = times[order[0]][1:]
    for (loop, reproducibility), found in times.items():
        took = [1e3 * t for t in found[1:]]
        ratios = [a / b for a, b in zip(found[1:], base, strict=True)]
        print(f"  {loop:13} {reproducibility:12} {statistics.median(took):7.2f} ms a step", end="")
        print(f"   x {statistics.median(ratios):.3f} ({min(ratios):.3f} .. {max(ratios):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    chosen = parser.parse_args()
    assert chosen.rounds >= LEAST_ROUNDS, f"at least {LEAST_ROUNDS} rounds"
    if not torch.cuda.is_available():
        sys.exit("NOT MEASURED: there is no CUDA device")
    settings.start_again_if_needed(compose(("hardware=cuda",)).config)
    weights = sum(parameter.numel() for parameter in Decoder().parameters())
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}; decoder of ", end="")
    print(f"{weights / 1e6:.0f} M weights, {BATCH * PLACES:,} tokens a step")
    for precision in (torch.bfloat16, torch.float32):
        with tempfile.TemporaryDirectory() as folder:
            measure(precision, chosen.rounds, chosen.steps, Path(folder))
    print(f"again: python {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
