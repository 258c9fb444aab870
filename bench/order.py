"""The keyed order against NumPy's in-memory permutation: python bench/order.py [--n N]."""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from saigen.data.order import Order, sample_index
from saigen.data.orders import Permuted
from saigen.streams import Streams

ROUNDS = 15


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10**6)
    n = parser.parse_args().n
    positions = np.arange(n)
    rng = np.random.default_rng(0)
    streams = Streams({"order": 0})
    epoch = Order(streams, Permuted(samples=10**12, arrays={}), 10**12, 0)
    print(f"{platform.machine()}, numpy {np.__version__}, median of {ROUNDS} alternating rounds")
    for size in (n, 1 << (n - 1).bit_length(), (1 << (n - 1).bit_length()) + 1, 10**12):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(seconds(lambda: rng.permutation(n)))
            ours.append(seconds(lambda s=size: sample_index(7, s, positions)))  # type: ignore[misc]
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"of {size:>13,}: {statistics.median(ours) / n * 1e9:5.1f} ns an index,"
            f" {statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"
            f" times permutation({n:,}) at {statistics.median(theirs) / n * 1e9:.1f} ns"
        )
    batches = [seconds(lambda b=b: epoch.indices(32 * b, 32 * b + 32)) for b in range(4096)]  # type: ignore[misc]
    print(f"a batch of 32 out of 10^12: {statistics.mean(batches) * 1e6:.1f} us")
    print(f"again: {' '.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
