"""What setting and watching the generators costs: python bench/streams.py [--count N]."""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch

from saigen.streams import Streams
from saigen.training.leaks import GlobalsWatch

ROUNDS = 9


def microseconds(work: Callable[[int], object], count: int) -> list[float]:
    """Time a call: one mean a round, sorted."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for step in range(count):
            work(step)
        rounds.append((time.perf_counter() - start) / count * 1e6)
    return sorted(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    streams = Streams({"dropout": 0})
    watch = GlobalsWatch(locate=False)

    def watched(_: int) -> None:
        watch.arm()
        watch.check()

    works: dict[str, Callable[[int], object]] = {
        "key": lambda step: streams.key("dropout", step, 0),
        "set_globals": lambda step: streams.set_globals("dropout", step, 0),
        "numpy": lambda step: streams.numpy("dropout", step, 0),
        "watch: arm + check": watched,
        "torch.manual_seed": torch.manual_seed,
    }
    print(f"{platform.machine()}, torch {torch.__version__}, median (min..max) of {ROUNDS} rounds")
    for name, work in works.items():
        times = microseconds(work, count)
        print(f"{name:20} {statistics.median(times):7.2f} us ({times[0]:.2f}..{times[-1]:.2f})")
    print(f"again: {' '.join(['python', *sys.argv])}")


if __name__ == "__main__":
    main()
