"""What `saigen compose` costs, start and all: python bench/compose.py.

Processor time, which other load moves less than the clock; the best of the rounds.
"""

import os
import resource
import subprocess
import sys

from peers import ROOT, processor

ROUNDS = 8


def seconds(*command: str) -> float:
    """The processor time of a command and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}; the best of {ROUNDS} rounds")
    for name, words in (("compose", ("-m", "saigen", "compose")), ("python alone", ("-c", ""))):
        best = min(seconds(sys.executable, *words) for _ in range(ROUNDS))
        print(f"  {name}: {best:.2f} s of processor time")
    print(f"again: python {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
