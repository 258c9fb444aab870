"""Runs verbs of saigen in this process under perturbations that must not matter.

    python -m saigen.analysis.child '{"perturb": ["draws"], "verbs": [["train"]]}'

Nothing of the project is edited: what surrounds it is changed, before it is imported.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any


def main(plan: dict[str, Any]) -> int:
    """Perturb, watch if asked to, and run the verbs one after another."""
    for name in plan.get("perturb", ()):
        _PERTURBATIONS[name]()
    for step in plan.get("kill_at", ()):
        _kill_at(step)
    if log := plan.get("observe"):
        from saigen.analysis.observer import Observer

        Observer(Path(log), Path()).start()
    if operations := plan.get("operations"):
        from saigen.analysis.operations import watch

        watch(operations[0], Path(operations[1]), Path())
    from saigen.cli import main as saigen
    from saigen.config import handover
    from saigen.training.ranks import is_rank

    for verb in plan["verbs"]:
        if is_rank() and verb[0] != "train":
            continue  # a rank that `train` started comes here too
        if values := plan.get("composed"):
            handover.give(values, ())
        if code := saigen(verb):
            return code
    return 0


def _draws() -> None:
    """Draw from every global generator, as code that ran before would have done."""
    import random

    import numpy as np
    import torch

    random.seed(20_011)
    np.random.seed(20_021)
    torch.manual_seed(20_023)
    random.random(), np.random.rand(3), torch.rand(5), torch.randperm(7)


def _listing() -> None:
    """Files are listed the other way round."""
    listdir, scandir = os.listdir, os.scandir
    os.listdir = lambda *where: listdir(*where)[::-1]  # type: ignore[assignment]
    os.scandir = lambda *where: _Turned(scandir(*where))  # type: ignore[assignment]


class _Turned(ExitStack):
    """What os.scandir returns, the other way round: a context, and an iterator that is closed."""

    def __init__(self, entries: Any) -> None:
        super().__init__()
        with entries:
            self._entries = list(entries)

    def __iter__(self) -> "_Turned":
        return self

    def __next__(self) -> Any:
        if not self._entries:
            raise StopIteration
        return self._entries.pop()


def _host() -> None:
    """Another machine's name, another user, another umask."""
    import platform
    import socket

    other = "another-machine"
    real = os.uname()
    socket.gethostname = lambda: other
    socket.getfqdn = lambda name="": other  # noqa: ARG005
    platform.node = lambda: other
    os.uname = lambda: os.uname_result((real[0], other, *real[2:]))
    os.umask(0o077)


def _kill_at(step: int) -> None:
    """Be killed, as by the kernel, when the draws of a step are about to be made.

    What was saved before is on disk by then, so that where it goes on from hangs on no disk.
    """
    from saigen.streams import Streams
    from saigen.training.checkpoint import Checkpoints

    save: Callable[..., None] = Checkpoints.save

    def saved(self: Checkpoints, *arguments: Any, **named: Any) -> None:
        save(self, *arguments, **named)
        self.wait()

    Checkpoints.save = saved  # type: ignore[method-assign,unused-ignore]
    set_globals: Callable[..., None] = Streams.set_globals

    def watched(self: Streams, name: str, *indices: int) -> None:
        if name == "dropout" and indices[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        set_globals(self, name, *indices)

    Streams.set_globals = watched  # type: ignore[method-assign,unused-ignore]


_PERTURBATIONS = {"draws": _draws, "listing": _listing, "host": _host}

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
