"""Two processes against one under the fixed tree, and the memory that the tree takes.

    python bench/scaling.py [--rounds N]

The speed needs two cores with nothing else to do; the load is printed. What the exchange alone
costs against an all-reduce is in bench/reduction.py.
"""

import argparse
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers import ROOT, TEXT, Case, private, processor, spread, work_of

LEAST_ROUNDS = 7
SPLIT = (TEXT, "trainer.microbatches=2")
SPEED = tuple(
    Case(
        f"transformer of 102,285 weights, batch {batch:,} in 2 microbatches",
        (*SPLIT, f"trainer.batch_size={batch}", f"trainer.max_steps={steps}"),
    )
    for batch, steps in ((1024, 25), (256, 100))
)
LARGE = ("model.hidden=131072", "trainer.max_steps=4")
LARGE_BYTES = 4 * (65 * 131072 + 131073 * 10)
MICROBATCHES = (1, 2, 8, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    assert rounds >= LEAST_ROUNDS, f"at least {LEAST_ROUNDS} rounds"
    os.chdir(ROOT)
    from saigen.config.compose import compose
    from saigen.environment import torch_flags as settings

    config = compose(()).config
    settings.start_again_if_needed(config)
    import torch

    settings.apply(config)
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end="")
    print(f"torch {torch.__version__}, 1 thread a process")
    for case in SPEED:
        with tempfile.TemporaryDirectory(dir=private()) as folder:
            speed(case.text, work_of(case, Path(folder)), rounds)
    with tempfile.TemporaryDirectory(dir=private()) as folder:
        memory(work_of(Case("", LARGE), Path(folder)))
    print(f"load {os.getloadavg()[0]:.1f} at the end; again: python {' '.join(sys.argv)}")


def speed(text: str, work: Any, rounds: int) -> None:
    """Alternate one process and two; the ratio is taken within a round."""
    one, two, beside = [], [], []
    for _ in range(rounds):
        one += ranks(work, 1)
        two += ranks(work, 2)
        beside.append(max(ranks(work, 1, runs=2)))
    ratios = [a / b for a, b in zip(one, two, strict=True)]
    limits = [2 * a / b for a, b in zip(one, beside, strict=True)]
    print(f"\n{text}; median of {rounds} rounds (least .. most)")
    print(f"  one process   {spread([1e3 * t for t in one], 1)} ms a step")
    print(f"  two processes {spread([1e3 * t for t in two], 1)} ms a step")
    print(f"  as fast       {spread(ratios, 2)} times")
    print(f"  two runs side by side that share nothing would be {spread(limits, 2).strip()} times")


def ranks(work: Any, world: int, *, runs: int = 1) -> list[float]:
    """Seconds a step of each run's rank 0; the runs train at once, in fresh processes."""
    fork = multiprocessing.get_context("fork")
    answers: Any = fork.SimpleQueue()
    with tempfile.TemporaryDirectory(dir=work.folder) as folder:
        started = []
        for run in range(runs):
            meeting = f"{folder}/rendezvous-{run}"
            for rank in range(world):
                arguments = (work, rank, world, meeting, answers)
                started.append(fork.Process(target=_rank, args=arguments))
        for process in started:
            process.start()
        for process in started:
            process.join()
        assert all(process.exitcode == 0 for process in started)
        return [float(answers.get()) for _ in range(runs)]


def _rank(work: Any, rank: int, world: int, meeting: str, answers: Any) -> None:
    import loops

    from saigen.training.processes import join

    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "SAIGEN_RENDEZVOUS": f"file://{meeting}",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    group = join("cpu", work.config.trainer.microbatches, 60.0)
    taken = loops.saigen(work, group)
    if rank == 0:
        answers.put(taken.wall)
    group.leave()


def memory(work: Any) -> None:
    """Peaks over the bare loop's, in gradients: of the loop, and until its end."""
    print(f"\nMLP 64-131072-10, gradients of {LARGE_BYTES / 1e6:.0f} MB, one process; peak memory,")
    print(
        "in gradients, over a bare loop that accumulates over the same microbatches (median of 3)"
    )
    for microbatches in MICROBATCHES:
        trainer = work.config.trainer.model_copy(update={"microbatches": microbatches})
        sliced = replace(work, config=work.config.model_copy(update={"trainer": trainer}))
        bare = median_peaks(functools.partial(bare_peaks, sliced))
        ours = median_peaks(functools.partial(saigen_peaks, sliced))
        loop, end = ((a - b) / LARGE_BYTES for a, b in zip(ours, bare, strict=True))
        print(
            f"  {microbatches:2} microbatches: {loop:5.2f} in the loop,"
            f" {end:5.2f} when the end is validated, kept and saved",
            flush=True,
        )


def bare_peaks(work: Any) -> list[int]:
    """The same of a bare loop, which validates at the end and saves nothing."""
    from torch import nn

    trainer = work.config.trainer
    model = work.model()
    optimizer, (inputs, targets) = work.optimizer(model), work.rows()
    size = trainer.batch_size // trainer.microbatches
    for _ in range(work.steps):
        optimizer.zero_grad(set_to_none=True)
        for start in range(0, trainer.batch_size, size):
            part = slice(start, start + size)
            loss = work.mean_loss(model, inputs[part], targets[part]) / trainer.microbatches
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), trainer.max_grad_norm)
        optimizer.step()
    loop = high_water()
    work.validate(model)
    return [loop, high_water()]


def saigen_peaks(work: Any) -> list[int]:
    """The peak when the last batch is read, and the peak when all is done."""
    import loops

    from saigen.training.processes import Group

    reads, peaks = work.steps * work.config.trainer.microbatches, list[int]()
    reader = type(work.dataset())
    original = reader.__getitems__

    def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads -= 1
        if reads == 0:
            peaks.append(high_water())
        return original(*arguments)

    reader.__getitems__ = counted
    loops.quiet_train(work, Path(tempfile.mkdtemp(dir=work.folder)), Group(0, 1))
    return [*peaks, high_water()]


def median_peaks(work: Callable[[], list[int]]) -> list[float]:
    """Each in a fresh process, which held as much as this one when it was forked."""
    found = [in_child(work) for _ in range(3)]
    return [statistics.median(column) for column in zip(*found, strict=True)]


def in_child(work: Callable[[], list[int]]) -> list[int]:
    fork = multiprocessing.get_context("fork")
    answers: Any = fork.SimpleQueue()
    process = fork.Process(target=lambda: answers.put(work()))
    process.start()
    process.join()
    assert process.exitcode == 0
    found: list[int] = answers.get()
    return found


def high_water() -> int:
    """The most bytes this process ever held (proc(5), VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM: this needs Linux")


if __name__ == "__main__":
    main()
