"""How long the canary takes, alone and beside other work: python bench/canary.py.

Three songs in a fresh process, with one thread and with two, in the environment that `train` starts
in and, as the peer, with libgomp's own spinning of idle threads.
"""

import os
import statistics
import subprocess
import sys

from peers import ROOT, processor

ROUNDS = 7
SONGS = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
from saigen.environment.numerics_probe import sing
from saigen.environment.optimizer_step import leave_the_compiler_out
leave_the_compiler_out()
started = time.perf_counter()
for _ in range(3):
    sing("cpu", portable=False)
print(time.perf_counter() - started)
"""


def seconds(threads: int, spins: str | None) -> float:
    """Of three songs, the first calls among them."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(threads)}
    environment.pop("GOMP_SPINCOUNT", None)
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    command = (sys.executable, "-c", SONGS, str(threads))
    return float(subprocess.check_output(command, env=environment, text=True))


def main() -> None:
    os.chdir(ROOT)
    from saigen.config.compose import compose
    from saigen.environment.torch_flags import environment_of

    spins = environment_of(compose(()).config)["GOMP_SPINCOUNT"]
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}; median of {ROUNDS} rounds")
    for busy in (0, 2):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for threads in (1, 2):
                times = [(seconds(threads, spins), seconds(threads, None)) for _ in range(ROUNDS)]
                ours, spinning = (statistics.median(column) for column in zip(*times, strict=True))
                print(f"  beside {busy} busy processes, {threads} threads: {ours:.2f} s", end="")
                print(
                    f", with libgomp's own spinning {spinning:.2f} s ({spinning / ours:.1f} times)"
                )
        finally:
            for other in others:
                other.kill()
                other.wait()
    print(f"again: python {' '.join(sys.argv)}")


if __name__ == "__main__":
    main()
