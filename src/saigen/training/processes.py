"""The processes that share one run: started, joined, watched, and told from one another.

How many there are is a circumstance under the fixed tree. Only rank 0 reads and writes files; all
ranks check that they hold the same recipe before step 0 and the same weights at each checkpoint.
"""

import ctypes
import datetime
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from saigen.errors import Failure, Refusal
from saigen.exit_codes import STOPPED
from saigen.interruption import answered
from saigen.training.ranks import BESIDE, RENDEZVOUS, Launched, is_rank, launched

_GRACE_SECONDS = 20.0  # that survivors have to say what they saw before they are ended
_POLL_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Group:
    """This process's place among the processes of a run."""

    rank: int
    world: int

    @property
    def writes(self) -> bool:
        """Whether this is the one process that touches files."""
        return self.rank == 0

    def share(self, value: Any) -> Any:
        """Rank 0's value (tensors come on its device), to every rank. All must call it alike."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        values = [value]
        with partners_needed():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value. All must call it alike."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        everywhere: list[Any] = [None] * self.world
        with partners_needed():
            dist.all_gather_object(everywhere, value)
        return everywhere

    def leave(self) -> None:
        """Part from the other processes, after the last collective."""
        if self.world > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    def refuse_unless_same(self, what: str, values: Mapping[str, str]) -> None:
        """Compare named digests over all ranks; raises Failure with the first that differs."""
        everywhere: list[dict[str, str]] = self.gather(dict(values))
        for name in values:
            found = [held[name] for held in everywhere]
            if len(set(found)) > 1:
                other = next(rank for rank, value in enumerate(found) if value != found[0])
                raise Failure(
                    f"the processes of this run do not hold the same {what}",
                    where=f"{name}, rank {other} of {self.world}",
                    expected=f"{found[0][:12]}, as rank 0 has it",
                    got=found[other][:12],
                    fix="start all processes from the same folder, environment and kind of machine",
                )


@contextmanager
def partners_needed() -> Iterator[None]:
    """Around what all processes do together: raises Failure where one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise Failure(
            "another process of this run is gone",
            where=f"rank {os.environ.get('RANK', '0')}, waiting for the others",
            expected=f"{os.environ.get('WORLD_SIZE', '1')} processes",
            got=str(error).splitlines()[0],
            fix="see what the launcher or torchrun says of it; the same command, with the same or "
            "another number of processes, continues from the newest checkpoint",
        ) from error


def join(device: str, timeout_seconds: float) -> Group:
    """Join the other processes, if there are any.

    Raises Refusal if there is no device for this one, Failure if the others do not come.
    """
    launched_as = launched() if is_rank() else Launched(0, 1, 0, None)
    if launched_as.world > 1:
        import torch.distributed as dist

        with partners_needed():
            dist.init_process_group(
                _backend(launched_as, device),
                init_method=os.environ.get(RENDEZVOUS, "env://"),
                rank=launched_as.rank,
                world_size=launched_as.world,
                timeout=datetime.timedelta(seconds=timeout_seconds),
            )
    return Group(launched_as.rank, launched_as.world)


def _backend(launched_as: Launched, device: str) -> str:
    """Take this process's device. NCCL wants one for each; where they share, Gloo goes through the
    processor's memory. Raises Refusal where nobody says that they share.
    """
    import torch

    if device == "cpu" or not (devices := torch.cuda.device_count()):
        return "gloo"  # that there is no device is told when the switches are set
    shared = launched_as.beside is not None and launched_as.beside > devices
    if launched_as.local_rank >= devices and not shared:
        raise Refusal(
            "there are fewer CUDA devices than processes on this machine",
            where="LOCAL_RANK (environment)",
            expected=f"below {devices}, the number of devices, where {BESIDE} does not tell that "
            "more share them",
            got=str(launched_as.local_rank),
            fix="start one process a device, or with torchrun or hardware.processes, which tell it",
        )
    torch.cuda.set_device(launched_as.local_rank % devices)
    return "gloo" if shared else "nccl"


def launch(processes: int, command: Sequence[str], inherited: int) -> int:
    """Start a command once for each rank on this machine and watch over them; the exit code.

    `inherited` is a file descriptor that every rank shall have. When a rank ends badly the
    others are ended within seconds, and it is named.
    """
    with tempfile.TemporaryDirectory(prefix="saigen-") as folder:
        environment = {
            "GLOO_SOCKET_IFNAME": "lo",
            RENDEZVOUS: f"file://{folder}/rendezvous",
            **os.environ,
            "WORLD_SIZE": str(processes),
            BESIDE: str(processes),
        }
        ranks = [
            subprocess.Popen(
                command,
                env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                preexec_fn=_end_with_parent,  # noqa: PLW1509  no thread was started here
                stdin=subprocess.DEVNULL,
                pass_fds=(inherited,),
            )
            for rank in range(processes)
        ]
        try:
            with answered(lambda number, _: _signal_all(ranks, number)):
                return _watch(ranks)
        finally:
            _signal_all(ranks, signal.SIGKILL)
            for process in ranks:
                process.wait()


def _watch(ranks: Sequence["subprocess.Popen[bytes]"]) -> int:
    codes: list[int | None] = [None]
    failed: list[tuple[int, int]] = []
    while None in codes and not failed:
        time.sleep(_POLL_SECONDS)
        codes = [process.poll() for process in ranks]
        ended = [(code, rank) for rank, code in enumerate(codes) if code is not None]
        failed = [found for found in ended if found[0] not in (0, STOPPED)]
    if not failed:
        return max(code for code, _ in ended)
    # more than one may have ended in the meantime: the one that a signal ended is the cause
    code, rank = min(failed)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    print(f"process {rank} of {len(ranks)} {how}; ending the others", file=sys.stderr, flush=True)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(_POLL_SECONDS)
    return code if code > 0 else 1


def _signal_all(ranks: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for process in ranks:
        if process.poll() is None:
            process.send_signal(number)


def _end_with_parent() -> None:
    """In a rank: die when the launcher dies, so that no orphan goes on (prctl(2), Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
