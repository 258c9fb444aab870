"""Starts, kills and restarts runs in one prepared project."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from conftest import TIMEOUT
from zygote import Zygote

from saigen.config.compose import compose
from saigen.training.trace_file import HEADER_BYTES, ROW

STEPS = 40
SHORT = (
    "trainer.batch_size=16",
    "trainer.microbatches=8",
    f"trainer.max_steps={STEPS}",
    "trainer.validate_every_epochs=1",
    "trainer.eval_batch_size=128",
    "tracking.checkpoint_every_steps=5",
    "tracking.trace_flush_steps=4",
)
ENDLESS = ("trainer.max_steps=100000", "trainer.max_epochs=100000")  # for the slowest watcher


class Lab:
    """Starts, kills and restarts runs in one prepared project."""

    def __init__(self, project, zygote: Zygote) -> None:
        self.project, self.zygote, self.count = project, zygote, 0
        self._configs: dict[tuple[str, ...], Path] = {}

    def start(self, overrides, *, processes: int = 1, workers: int = 0) -> "Attempt":
        self.count += 1
        log = self.project.root / f"log-{self.count}"
        rendezvous = self.project.root / f"rendezvous-{self.count}"
        layout = (
            f"hardware.processes={processes}",
            f"hardware.loader_workers={workers}",
            "hardware.process_timeout_seconds=300",
        )
        composed = self._composed((*overrides, *layout))
        argv = ["train", *overrides, *layout]
        pids = {}
        for rank in range(processes):
            env = {
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(processes),
                "GLOO_SOCKET_IFNAME": "lo",
                "SAIGEN_RENDEZVOUS": f"file://{rendezvous}",
                # a fork that has to start again imports torch anew (2 s); so it is refused, by name
                "SAIGEN_STARTED_AGAIN": "1",
            }
            path = Path(f"{log}-{rank}")
            pid = self.zygote.start(argv, self.project.root, env, path, composed=composed)
            pids[pid] = path
        return Attempt(pids)

    def _composed(self, overrides: tuple[str, ...]) -> Path:
        """The config, composed once for all ranks, as the launcher hands it over."""
        if overrides not in self._configs:
            composition = compose(overrides, self.project.root / "conf")
            held = {"values": composition.values, "overrides": composition.overrides}
            path = self.project.root / f"composed-{len(self._configs)}"
            path.write_text(json.dumps(held))
            self._configs[overrides] = path
        return self._configs[overrides]

    def train(self, overrides, **layout) -> dict:
        """Train to the end; returns the newest record."""
        attempt = self.start(overrides, **layout)
        assert attempt.codes() == [0] * len(attempt.pids), attempt.log()
        return self.newest()

    def interrupt(
        self, overrides, *, after: int, rank: int, seconds: float = 0, **layout
    ) -> "Attempt":
        """Start, and kill as soon as `after` steps are on disk and `seconds` have passed."""
        attempt = self.start(overrides, **layout)
        wait_for(lambda: attempt.ended or self.steps() >= after, every=0.002)
        time.sleep(seconds)
        attempt.kill(rank=rank)
        return attempt

    def kill(self, overrides, when: Callable[[], object]) -> None:
        """Start, and kill as soon as something is so; anew where the training ended before."""
        codes = [0]
        while codes == [0]:
            attempt = self.start(overrides)
            wait_for(lambda: attempt.ended or when(), every=0.002)  # noqa: B023  called at once
            attempt.kill()
            codes = attempt.codes()
            if codes == [0]:
                shutil.rmtree(self.project.root / "runs" / self.newest()["run"])
        assert codes == [-signal.SIGKILL], attempt.log()

    def newest(self) -> dict:
        """The record that was written last."""
        written = self.project.root.glob("runs/*/record.json")
        return json.loads(max(written, key=lambda path: path.stat().st_mtime_ns).read_text())

    def steps(self) -> int:
        """How many steps of an unfinished run are in its trace."""
        with contextlib.suppress(ValueError, OSError):
            record = self.newest()
            if not record["complete"]:
                trace = self.project.root / "runs" / record["run"] / "trace.bin"
                return (trace.stat().st_size - HEADER_BYTES) // ROW.itemsize
        return 0


class Attempt:
    """The processes of one start."""

    def __init__(self, pids: dict[int, Path]) -> None:
        self.pids = pids

    def code(self, path: Path) -> int | None:
        try:
            return int(Path(f"{path}.code").read_text())
        except (OSError, ValueError):
            return None

    @property
    def ended(self) -> bool:
        return None not in [self.code(path) for path in self.pids.values()]

    def codes(self, timeout: float = TIMEOUT) -> list[int]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.ended:
                return [int(self.code(path)) for path in self.pids.values()]
            time.sleep(0.01)
        raise AssertionError(f"still running after {timeout} s: {self.log()}")

    def kill(self, number: int = signal.SIGKILL, rank: int = 0) -> None:
        """Signal one rank; the launcher's part, ending the others, is done at once."""
        pids = list(self.pids)
        for pid in [pids[rank], *(p for p in pids if p != pids[rank] and number == signal.SIGKILL)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self.codes()

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.pids.values() if path.exists())


def wait_for(condition, seconds: float = TIMEOUT, every: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(every)
