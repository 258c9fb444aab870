"""What fingerprints of weights and gradients add to a step: python bench/fingerprint.py.

The same step, alternately without and with the two numbers that a trace row holds of them.
"""

import platform
import statistics
import sys
import time
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from saigen.environment.optimizer_step import bare_step
from saigen.training.fingerprint import Fingerprint
from saigen.training.flat import FlatModel

ROUNDS = 21
# widths, batch, steps a round
MODELS = {
    "digits MLP, 9,610 parameters": ([64, 128, 10], 32, 200),
    "MLP of 166,666 parameters": ([64, 352, 352, 54], 352, 20),
}


class Work:
    """One training step on fixed data, and the fingerprints of what it left."""

    def __init__(self, widths: list[int], batch: int) -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for into, out in pairwise(widths):
            layers += [nn.Linear(into, out), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        self.flat = FlatModel(self.model, scalars=3, multiple=64, microbatches=1)
        held = self.flat.held(one_tensor=True)
        self.optimizer_step = bare_step(torch.optim.AdamW(held.values(), lr=1e-3, fused=True))
        self.x, self.y = torch.randn(batch, widths[0]), torch.randint(widths[-1], (batch,))
        self.traced = [Fingerprint(t) for t in (self.flat.gradients, self.flat.weights)]

    def step(self) -> None:
        self.flat.grad_buffer.zero_()
        cross_entropy(self.model(self.x), self.y).backward()
        with torch.no_grad():
            self.optimizer_step()

    def fingerprint(self) -> None:
        """As a trace row has them: one of the two with signs, by turns."""
        for number, traced in enumerate(self.traced):
            traced.read(signs=number == 0)

    def round(self, steps: int, *, traced: bool) -> float:
        """Seconds a step."""
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
            if traced:
                self.fingerprint()
        return (time.perf_counter() - start) / steps


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, {ROUNDS} alternating rounds")
    for name, (widths, batch, steps) in MODELS.items():
        work = Work(widths, batch)
        work.round(steps, traced=True)
        pairs = [
            (work.round(steps, traced=False), work.round(steps, traced=True)) for _ in range(ROUNDS)
        ]
        alone = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(steps):
                work.fingerprint()
            alone.append((time.perf_counter() - start) / steps)
        bare, traced = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"{name}: {bare:.3f} ms a step, {traced:.3f} with fingerprints, ratio"
            f" {statistics.median(ratios):.3f} ({ratios[0]:.3f}..{ratios[-1]:.3f});"
            f" alone {statistics.median(alone) * 1e6:.1f} us, at best {min(alone) * 1e6:.1f}"
        )
    print(f"again: {' '.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
