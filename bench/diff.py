"""Time `saigen diff` of two runs with 100,000 steps of trace: python bench/diff.py [--rounds N].

The whole process, from the shell's view. Peer, in turn with it: an interpreter that imports NumPy
and reads and compares both traces once. The runs are made by `saigen train` in a private copy of
the project; their traces are then replaced by long ones that part at a step of each round's own.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from peers import LEAST_ROUNDS, ROOT, private, processor, spread

from saigen.analysis.sandbox import Workplace
from saigen.digest import digest_file
from saigen.runs.record import outcome_digest
from saigen.training.trace_file import HEADER_BYTES, NAME, ROW

STEPS = 100_000
PEER = """
import sys, numpy
a, b = (numpy.fromfile(path, numpy.uint8) for path in sys.argv[1:])
print(int(numpy.argmax(a != b)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    assert rounds >= LEAST_ROUNDS, f"at least {LEAST_ROUNDS} rounds"
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}; python bench/diff.py --rounds {rounds}")
    with tempfile.TemporaryDirectory(dir=private()) as scratch:
        root = Workplace(ROOT.resolve(), Path(scratch) / "project").root
        for verb in (["prepare"], ["train", "debug=two_steps"],
                     ["train", "debug=two_steps", "optimizer.lr=0.004"]):  # fmt: skip
            timed(root, [sys.executable, "-m", "saigen", *verb], code=0)
        first, second = sorted(
            (path.parent for path in root.glob("runs/*/record.json")), key=os.path.getmtime
        )
        ours, theirs = [], []
        lengthen(first, STEPS)
        for number in range(rounds):
            parted = (2 * number + 1) * STEPS // (2 * rounds)
            lengthen(second, parted)
            ask = [sys.executable, "-m", "saigen", "diff", str(first), str(second)]
            seconds, told = timed(root, ask, code=1)
            assert f"the runs part at step {parted}, in the gradients" in told
            ours.append(seconds)
            read = [sys.executable, "-c", PEER, str(first / NAME), str(second / NAME)]
            theirs.append(timed(root, read, code=0)[0])
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"whole process; median of {rounds} rounds (least .. most)")
    print(f"  saigen diff of {STEPS} and {STEPS} steps: {spread(ours, 2).strip()} s")
    print(f"  import NumPy, read and compare both:  {spread(theirs, 2).strip()} s")
    print(f"  ratio {ratio:.2f}")


def lengthen(run: Path, parted: int) -> None:
    """Give a run a trace of STEPS rows with other gradients from step `parted` on."""
    rows = np.zeros(STEPS, ROW)
    rows["step"], rows["loss"] = np.arange(STEPS), np.linspace(2, 0.1, STEPS)
    rows["gradients"][parted:] = 1
    chain = b"\0" * 16
    for row in rows:
        chain = hashlib.blake2b(chain + row.tobytes()[: ROW.itemsize - 16], digest_size=16).digest()
        row["chain"] = chain
    head = (run / NAME).read_bytes()[:HEADER_BYTES]
    (run / NAME).write_bytes(head + rows.tobytes())
    record = json.loads((run / "record.json").read_text())
    record["outcome"]["trace"] = {"sha256": digest_file(run / NAME), "steps": STEPS}
    record["outcome"]["digest"] = outcome_digest(record["outcome"])
    (run / "record.json").write_text(json.dumps(record))


def timed(root: Path, command: list[str], code: int) -> tuple[float, str]:
    """Seconds that a command takes, and what it says."""
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    assert done.returncode == code, done.stdout + done.stderr
    return seconds, done.stdout


if __name__ == "__main__":
    main()
