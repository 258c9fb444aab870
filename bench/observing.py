"""What observing costs: processor time of a start and of a step, in turns with it off.

    python bench/observing.py [ROUNDS]

A start is a training of two steps; a step is what 2,000 more of them take, by their number.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = 2000
COPIED = ("conf", "data", "docker", "pyproject.toml", "src")
# the same command, without an observer
OFF = """
import contextlib, sys
from saigen.observing import observed, observer
observer.observing = lambda root: contextlib.nullcontext({})
import saigen.data.prepared
saigen.data.prepared.observing = observer.observing
from saigen.cli import main
sys.exit(main(sys.argv[1:]))
"""
ON = "import sys\nfrom saigen.cli import main\nsys.exit(main(sys.argv[1:]))"


def seconds(program: str, steps: int) -> float:
    """Processor time of one training in a fresh project."""
    with tempfile.TemporaryDirectory(prefix="saigen-bench-") as folder:
        for name in COPIED:
            (Path(folder) / name).symlink_to(ROOT / name)
        length = [f"trainer.max_steps={steps}", "trainer.max_epochs=100000"]
        rare = ["trainer.validate_every_epochs=100000"]
        command = [sys.executable, "-c", program, "train", *length, *rare]
        before = os.times()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main(rounds: int) -> None:
    """Print medians and quartiles of a start and a step, on and off, and the ratio of each."""
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for steps in (2, 2 + STEPS):
            for name, program in (("off", OFF), ("on", ON)):
                taken.setdefault((name, steps), []).append(seconds(program, steps))
    for what, numbers in (
        ("start [s]", {n: taken[n, 2] for n in ("off", "on")}),
        (
            "step [us]",
            {
                n: [
                    (long - short) / STEPS * 1e6
                    for long, short in zip(taken[n, 2 + STEPS], taken[n, 2], strict=True)
                ]
                for n in ("off", "on")
            },
        ),
    ):
        middle = {name: statistics.median(values) for name, values in numbers.items()}
        spread = {n: max(v) - min(v) for n, v in numbers.items()}
        told = ", ".join(f"{n} {middle[n]:.3f} (range {spread[n]:.3f})" for n in middle)
        print(f"{what}: {told}, ratio {middle['on'] / middle['off']:.3f}, n = {rounds}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5)
