"""Starts, kills and restarts runs in one prepared project."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from zygote import Zygote

SHORT = (
    "trainer.batch_examples=16",
    "trainer.microbatches=8",
    "trainer.max_steps=40",
    "trainer.validate_every_epochs=1",
    "trainer.evaluation_batch_examples=128",
    "tracking.checkpoint_every_steps=5",
    "tracking.trace_flush_steps=4",
)


class Lab:
    """Starts, kills and restarts runs in one prepared project."""

    def __init__(self, project, zygote: Zygote) -> None:
        self.project, self.zygote, self.count = project, zygote, 0

    def start(self, overrides, *, processes: int = 1, workers: int = 0) -> "Attempt":
        self.count += 1
        log = self.project.root / f"log-{self.count}"
        rendezvous = self.project.root / f"rendezvous-{self.count}"
        argv = [
            "train",
            *overrides,
            f"hardware.processes={processes}",
            f"hardware.loader_workers={workers}",
            "hardware.process_timeout_seconds=30",
        ]
        pids = {}
        for rank in range(processes):
            env = {
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_RANK": str(rank),
                "GLOO_SOCKET_IFNAME": "lo",
                "SAIGEN_RENDEZVOUS": f"file://{rendezvous}",
            }
            path = Path(f"{log}-{rank}")
            pids[self.zygote.start(argv, self.project.root, env, path)] = path
        return Attempt(pids)

    def train(self, overrides, **layout) -> dict:
        """Train to the end; returns the newest record."""
        attempt = self.start(overrides, **layout)
        assert attempt.codes() == [0] * len(attempt.pids), attempt.log()
        return self.newest()

    def newest(self) -> dict:
        records = [json.loads(p.read_text()) for p in self.project.root.glob("runs/*/record.json")]
        return max(records, key=lambda record: record["circumstances"]["started_at"])


class Attempt:
    """The processes of one start."""

    def __init__(self, pids: dict[int, Path]) -> None:
        self.pids = pids

    def code(self, path: Path) -> int | None:
        try:
            return int(Path(f"{path}.code").read_text())
        except (OSError, ValueError):
            return None

    def codes(self, timeout: float = 120) -> list[int]:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            codes = [self.code(path) for path in self.pids.values()]
            if None not in codes:
                return codes
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


def wait_for(condition, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
