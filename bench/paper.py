"""The table of docs/scale.md: bytes and time of the fixed tree on GPUs, on paper, from stated
assumptions. Nothing here is measured: python bench/paper.py
"""

import sys
from dataclasses import dataclass
from math import log2

from saigen.training.tree import share, subtrees

NODE = 8  # GPUs that share NVLink
NVLINK = 350e9  # bytes/s, a GPU, each way, in collectives: NCCL issue 1281 reports 350 to 360
NIC = 45e9  # bytes/s, a GPU, each way: one port of 400 Gb/s, nine tenths of it
MEMORY = 4.8e12  # bytes/s: an H200
FLOPS = 400e12  # a second: four tenths of the 989e12 that the data sheet says of bf16
TOKENS = 32_768  # a GPU and step
WEIGHTS = 1e9  # gradients are float32; all times grow with it alike
PROCESSES = (8, 64, 1024)
UNEVEN = ((16, 3), (64, 48), (256, 96), (1024, 1000), (4096, 1000))  # microbatches, processes


@dataclass(frozen=True)
class Cost:
    """Of one reduction, for a GPU: bytes that it sends over each kind of link, and seconds."""

    nvlink: float
    nic: float
    seconds: float


def ring(size: float, processes: int) -> Cost:
    """NCCL's rings: each leaves a node through a network card of its own, so that a card carries
    an eighth of what a flat network would. Without overlap.
    """
    moved = 2 * size * (processes - 1) / processes
    nic = moved / NODE if processes > NODE else 0.0
    return Cost(moved, nic, max(moved / NVLINK, nic / NIC))


def as_built(size: float, processes: int) -> Cost:
    """One all-to-all over all processes, sums by owner, one all-gather (NCCL's rings)."""
    near = size * (min(NODE, processes) - 1) / processes
    far = size * max(0, processes - NODE) / processes
    gathered = ring(size, processes)
    seconds = max(near / NVLINK, far / NIC) + sums(size) + gathered.seconds / 2
    return Cost(near + gathered.nvlink / 2, far + gathered.nic / 2, seconds)


def in_two_levels(size: float, processes: int) -> Cost:
    """The node's subtree first, over NVLink; then each GPU finishes its eighth with its like in
    the other nodes; then back. The same tree, so the same bits. Not built.
    """
    if processes <= NODE:
        return as_built(size, processes)
    nodes = processes // NODE
    near = 2 * size * (NODE - 1) / NODE
    far = 2 * size / NODE * (nodes - 1) / nodes
    return Cost(near, far, near / NVLINK + far / NIC + sums(size) + sums(size / NODE))


def sums(size: float) -> float:
    """Seconds that adding takes: as many slices as there are processes, two reads and a write."""
    return 3 * size / MEMORY


def main() -> None:
    computing = 6 * WEIGHTS * TOKENS / FLOPS  # seconds; two thirds of it are the backward pass
    print("| GPUs | what reduces | GB over NVLink / over the network | ms alone | ms a step |")
    print("|---|---|---|---|---|")
    for processes in PROCESSES:
        for name, way in (
            ("ring all-reduce, overlapped (DDP)", ring),
            ("fixed tree, as built", as_built),
            ("fixed tree in two levels", in_two_levels),
        ):
            cost = way(4 * WEIGHTS, processes)
            seen = max(0.0, cost.seconds - computing * 2 / 3) if way is ring else cost.seconds
            print(
                f"| {processes} | {name} | {cost.nvlink / 1e9:.1f} / {cost.nic / 1e9:.1f} "
                f"| {1e3 * cost.seconds:.0f} | {1e3 * (computing + seen):.0f} "
                f"(+{seen / computing:.0%}) |"
            )
    print("\n| microbatches | processes | sums a process sends: mean, most | bytes over even |")
    print("|---|---|---|---|")
    for microbatches, processes in UNEVEN:
        counts = [
            len(subtrees(microbatches, share(microbatches, rank, processes)))
            for rank in range(processes)
        ]
        mean = sum(counts) / processes
        print(
            f"| {microbatches:,} | {processes:,} | {mean:.2f}, {max(counts)} "
            f"(bound {2 * log2(microbatches):.0f}) | {(mean + 1) / 2:.2f} |"
        )
    print(f"\nagain: python {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
