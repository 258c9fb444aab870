"""The processes that share one run: started, joined, watched, and told from one another.

How many there are is a circumstance under the fixed tree. Only rank 0 reads and writes files; all
ranks check that they hold the same recipe before step 0 and the same weights at each checkpoint.
"""

import ctypes
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saigen.refusal import Failure, Refusal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# saigen: constant, because shells count signals from 128
TERMINATED = 128 + signal.SIGTERM  # the exit code of a run that SIGTERM ended at a checkpoint
# saigen: constant, because waiting moves no bit
_GRACE_SECONDS = 5.0  # that survivors have to say what they saw before they are ended
_PR_SET_PDEATHSIG = 1


@dataclass
class Group:
    """This process's place among the processes of a run."""

    rank: int
    world: int
    _calls: int = field(default=0, init=False)

    @property
    def writes(self) -> bool:
        """Whether this is the one process that touches files."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value, to every rank, by rank. All ranks must call it alike."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        store = dist.distributed_c10d._get_default_store()
        self._calls += 1
        head = f"saigen/{self._calls}"
        store.set(f"{head}/{self.rank}", json.dumps(value))
        with partners_needed():
            return [json.loads(store.get(f"{head}/{rank}")) for rank in range(self.world)]

    def share(self, value: Any) -> Any:
        """Rank 0's JSON value, to every rank."""
        return self.gather(value)[0]

    def broadcast(
        self, tensors: dict[str, "Tensor"], device: "torch.device"
    ) -> dict[str, "Tensor"]:
        """Rank 0's tensors by name, to every rank, on the device. Bytes move, nothing is added."""
        import torch
        import torch.distributed as dist

        if self.world == 1:
            return tensors
        forms = [(n, str(t.dtype).removeprefix("torch."), t.shape) for n, t in tensors.items()]
        received = {}
        for name, dtype, shape in self.share(forms):
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            if self.writes:
                tensor.copy_(tensors[name])
            dist.broadcast(tensor.view(-1).view(torch.uint8) if tensor.numel() else tensor, src=0)
            received[name] = tensor
        return received

    def leave(self) -> None:
        """Part from the other processes, after the last collective."""
        if self.world > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    def refuse_unless_same(self, what: str, values: Mapping[str, str]) -> None:
        """Compare named digests over all ranks; raises Failure with the first that differs."""
        everywhere = self.gather(dict(values))
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


def is_rank() -> bool:
    """Whether this process was started as one of several, by us or by torchrun."""
    return "RANK" in os.environ


def join(device: str, microbatches: int, timeout_seconds: float) -> Group:
    """Join the other processes, if there are any.

    Raises Refusal if there are more processes than microbatches to share.
    """
    # saigen: constant, because a process that nobody launched is alone
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if world > microbatches:
        raise Refusal(
            "there are more processes than microbatches to share",
            where="hardware.processes",
            expected=f"at most trainer.microbatches={microbatches}",
            got=str(world),
            fix=f"hardware.processes={microbatches}, or a larger trainer.microbatches (which "
            "is another recipe)",
        )
    if world > 1:
        import torch
        import torch.distributed as dist

        if device == "cuda":
            # saigen: constant, because a process that nobody launched is alone
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            # saigen: constant, because torchrun leaves its address there
            init_method=os.environ.get("SAIGEN_RENDEZVOUS", "env://"),
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=timeout_seconds),
        )
    return Group(rank, world)


def launch(processes: int, command: Sequence[str], inherited: int) -> int:
    """Start a command once for each rank on this machine and watch over them; the exit code.

    `inherited` is a file descriptor that every rank shall have. When a rank ends badly the
    others are ended within seconds, and it is named.
    """
    with tempfile.TemporaryDirectory(prefix="saigen-") as folder:
        environment = {
            "GLOO_SOCKET_IFNAME": "lo",
            "SAIGEN_RENDEZVOUS": f"file://{folder}/rendezvous",
            **os.environ,
            "WORLD_SIZE": str(processes),
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
        forwarded = signal.signal(signal.SIGTERM, lambda *_: _signal_all(ranks, signal.SIGTERM))
        try:
            return _watch(ranks)
        finally:
            signal.signal(signal.SIGTERM, forwarded)
            _signal_all(ranks, signal.SIGKILL)
            for process in ranks:
                process.wait()


def _watch(ranks: Sequence["subprocess.Popen[bytes]"]) -> int:
    while True:
        codes = [process.poll() for process in ranks]
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0, TERMINATED)]
        if failed:
            break
        if None not in codes:
            # saigen: constant, because no exit code yet means that none failed
            return max(int(code or 0) for code in codes)
        time.sleep(0.02)  # saigen: constant, because waiting moves no bit
    # more than one may have ended in the meantime: the one that a signal ended is the cause
    # saigen: constant, because no exit code yet means that none failed
    rank = min(failed, key=lambda failed_rank: codes[failed_rank] or 0)
    code = codes[rank] or 0  # saigen: constant, because no exit code yet means that none failed
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    print(f"process {rank} of {len(ranks)} {how}; ending the others", file=sys.stderr, flush=True)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and any(process.poll() is None for process in ranks):
        time.sleep(0.02)  # saigen: constant, because waiting moves no bit
    return code if code > 0 else 1


def _signal_all(ranks: Sequence["subprocess.Popen[bytes]"], number: int) -> None:
    for process in ranks:
        if process.poll() is None:
            process.send_signal(number)


def _end_with_parent() -> None:
    """In a rank: die when the launcher dies, so that no orphan goes on (prctl(2), Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
