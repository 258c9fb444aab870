"""What the trace adds to a step: python bench/trace_row.py [--rounds N].

A row (ids, loss, fingerprints of gradients, weights and optimizer state) against a step of the bare
loop, both in processor time and taken in turn, for the cases of bench/peers.py.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import CASES, LEAST_ROUNDS, ROOT, private, processor, spread, work_of

ROWS = 256


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
    import loops
    import torch

    settings.apply(config)
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}; torch {torch.__version__}, 1 thread")
    print(f"processor time; median of {rounds} rounds (least .. most)")
    for case in CASES.values():
        with tempfile.TemporaryDirectory(dir=private()) as folder:
            work = work_of(case, Path(folder))
            add, look = row(work, Path(folder))
            loops.plain(work)
            rows, shares, prints = [], [], []
            for _ in range(rounds):
                step = loops.plain(work).processor
                rows.append(add())
                shares.append(rows[-1] / step)
                prints.append(look() / step)
        print(f"  {case.text}: {spread([1e6 * t for t in rows], 0).strip()} us a row,", end="")
        print(f" {statistics.median(shares):.1%} of a bare step ({min(shares):.1%} .. ", end="")
        print(f"{max(shares):.1%}); fingerprints of weights and gradients alone ", end="")
        print(f"{statistics.median(prints):.1%}")
    print(f"again: python {' '.join(sys.argv)}")


def row(work: Any, folder: Path) -> Any:
    """Two measurements of a model that has stepped once: of ROWS rows, the files come along as they
    would, and of as many fingerprints of weights and gradients.
    """
    import numpy as np
    import torch

    from saigen.config.callables import instantiate
    from saigen.training.fingerprint import Fingerprint
    from saigen.training.flat import FlatModel
    from saigen.training.state_trace import StateTrace
    from saigen.training.step_totals import StepTotals
    from saigen.training.trace import Trace

    flat = FlatModel(work.model(), scalars=3, multiple=64, microbatches=1)
    held = list(flat.held(one_tensor=True).values())
    optimizer = instantiate(work.config.optimizer, params=held)
    optimizer.step()
    sums = StepTotals(flat.scalars, [])
    sums.put(torch.tensor(1.0), 1, None, asked_to_stop=False)
    flush = work.config.tracking.trace_flush_steps
    state = StateTrace([optimizer], [], flat.values.device)
    trace = Trace(
        folder, flat, sums, state, flush_steps=flush, resumed_at=0, expected={}, in_depth=False
    )
    samples = np.arange(work.config.trainer.batch_size)

    def add() -> float:
        start = time.process_time()
        for step in range(ROWS):
            trace.add(step, samples)
        return (time.process_time() - start) / ROWS

    traced = [Fingerprint(flat.gradients), Fingerprint(flat.weights)]

    def look() -> float:
        start = time.process_time()
        for step in range(ROWS):
            for number, fingerprint in enumerate(traced):
                fingerprint.read(signs=step % 2 == number)
        return (time.process_time() - start) / ROWS

    return add, look


if __name__ == "__main__":
    main()
