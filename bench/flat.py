"""The optimizer's step on flat memory and on many tensors: python bench/flat.py."""

import platform
import statistics
import sys
import time
from itertools import pairwise

import torch
from torch import nn

from saigen.training.flat import FlatModel

ROUNDS, COUNT = 15, 300
WIDTHS = {"digits MLP (4 tensors)": [64, 128, 10], "deep MLP (64 tensors)": [64] * 33}


def microseconds(step: object) -> float:
    assert callable(step)
    start = time.perf_counter()
    for _ in range(COUNT):
        step()
    return (time.perf_counter() - start) / COUNT * 1e6


def mlp(widths: list[int]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread, fused AdamW, us a step")
    for name, widths in WIDTHS.items():
        plain = mlp(widths)
        for p in plain.parameters():
            p.grad = torch.ones_like(p)
        flat = FlatModel(mlp(widths), scalars=0, multiple=64, microbatches=1)
        held = list(flat.held(one_tensor=True).values())
        many = torch.optim.AdamW(plain.parameters(), lr=1e-3, fused=True)
        one = torch.optim.AdamW(held, lr=1e-3, fused=True)
        times = [(microseconds(many.step), microseconds(one.step)) for _ in range(ROUNDS)]
        a, b = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name}: {a:.1f} tensor by tensor, {b:.1f} flat (median of {ROUNDS})")
    print(f"again: {' '.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
