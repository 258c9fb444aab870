"""The fixed tree against all-reduce, over Gloo: python bench/reduction.py [--processes N].

Each process has one microbatch per step, so this is the price of communication alone; a step also
computes. Both sides sum the same gradients.
"""

import argparse
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
from torch import nn

from saigen.training.flat import FlatModel
from saigen.training.processes import Group
from saigen.training.reduction import Reduction

ROUNDS = 9
MEGABYTES = (1, 10, 100)


def measure(folder: str, rank: int, world: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    for megabytes in MEGABYTES:
        model = nn.Linear(megabytes * 250_000, 1, bias=False)
        flat = FlatModel(model, scalars=2, multiple=64 * world, microbatches=1)
        reduction = Reduction(flat, Group(rank, world), world)
        tree, ring = [], []
        for _ in range(ROUNDS):
            reduction.begin_step()
            dist.barrier()
            start = time.perf_counter()
            reduction.end_microbatch(rank)
            reduction.end_step()
            tree.append(time.perf_counter() - start)
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(flat.gradients[0])
            ring.append(time.perf_counter() - start)
        if rank == 0:
            a, b = (statistics.median(times) * 1e3 for times in (tree, ring))
            ratios = sorted(t / r for t, r in zip(tree, ring, strict=True))
            print(
                f"{megabytes:>4} MB: tree {a:8.2f} ms, all-reduce {b:8.2f} ms,"
                f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})",
                flush=True,
            )
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    world = parser.parse_args().processes
    print(f"{platform.machine()}, torch {torch.__version__}, {world} processes, Gloo on loopback")
    with tempfile.TemporaryDirectory() as folder:
        fork = multiprocessing.get_context("fork")
        ranks = [fork.Process(target=measure, args=(folder, r, world)) for r in range(world)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
    print(f"again: {' '.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
