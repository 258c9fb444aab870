"""What observing costs: processor time of a start and of a step, in turns with it off.

    python bench/observing.py [--rounds N] [--steps N]

A start is a training of two steps; a step is what more of them take, by their number.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
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


def seconds(project: Path, program: str, steps: int) -> float:
    """Processor time of one training in a project that never trained."""
    for name in ("runs", "prepared", ".saigen/prepared"):
        shutil.rmtree(project / name, ignore_errors=True)
    length = [f"trainer.max_steps={steps}", "trainer.max_epochs=100000"]
    rare = ["trainer.validate_every_epochs=100000"]
    command = [sys.executable, "-c", program, "train", *length, *rare]
    environment = {**os.environ, "PYTHONPATH": str(project / "src")}
    before = os.times()
    done = subprocess.run(command, cwd=project, env=environment, check=False, capture_output=True)
    after = os.times()
    assert done.returncode == 0, done.stderr.decode()
    return sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    """Print medians and ranges of a start and a step, on and off, and the ratio of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    taken: dict[tuple[str, int], list[float]] = {}
    programs = [("off", OFF), ("on", ON)]
    with tempfile.TemporaryDirectory(prefix="saigen-bench-") as folder:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, Path(folder) / name)
        seconds(Path(folder), ON, 2)
        for _ in range(given.rounds):
            programs.reverse()
            for steps in (2, 2 + given.steps):
                for name, program in programs:
                    used = seconds(Path(folder), program, steps)
                    taken.setdefault((name, steps), []).append(used)
    step = {
        name: [
            (long - short) / given.steps * 1e6
            for long, short in zip(taken[name, 2 + given.steps], taken[name, 2], strict=True)
        ]
        for name in ("off", "on")
    }
    for what, numbers in (("start [s]", {n: taken[n, 2] for n in ("off", "on")}),
                          ("step [us]", step)):  # fmt: skip
        middle = {name: statistics.median(values) for name, values in numbers.items()}
        told = ", ".join(
            f"{n} {middle[n]:.3f} ({min(v):.3f} to {max(v):.3f})" for n, v in numbers.items()
        )
        ratio = middle["on"] / middle["off"]
        print(f"{what}: {told}, ratio {ratio:.3f}, n = {given.rounds}")


if __name__ == "__main__":
    main()
