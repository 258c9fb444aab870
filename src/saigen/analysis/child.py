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


def _processors() -> None:
    """One processor more than there are."""
    count, allowed, asked = os.cpu_count() or 1, os.sched_getaffinity, os.sysconf
    os.cpu_count = lambda: count + 1
    if hasattr(os, "process_cpu_count"):
        os.process_cpu_count = lambda: count + 1
    os.sched_getaffinity = lambda pid: {*allowed(pid), 1 << 10}
    os.sysconf = lambda name: asked(name) + ("NPROC" in str(name) or "PAGES" in str(name))


def _user() -> None:
    """Another user, by number and by name."""
    import pwd

    other = pwd.struct_passwd(("another", "x", 4242, 4242, "", "/nonexistent", "/bin/sh"))
    os.getlogin = lambda: "another"
    os.getuid = os.geteuid = lambda: 4242
    pwd.getpwuid = pwd.getpwnam = lambda _: other  # type: ignore[assignment]
    os.environ.update(dict.fromkeys(("LOGNAME", "USER", "USERNAME"), "another"))


def _terminal() -> None:
    """A terminal of another size."""
    os.get_terminal_size = lambda *_: os.terminal_size((41, 7))


def _limits() -> None:
    """Other limits of what a process may use."""
    import resource

    plain = resource.getrlimit
    resource.getrlimit = lambda which: (plain(which)[0] // 2 + 4096, plain(which)[1])


_LATER = 400 * 86_400 + 7 * 3600  # seconds: another date, year and hour


def _clock() -> None:
    """A clock that is more than a year ahead."""
    import datetime
    import time

    now, now_ns = time.time, time.time_ns
    plain: Any = datetime.datetime
    day: Any = datetime.date
    later = datetime.timedelta(seconds=_LATER)

    class Same(type):
        def __instancecheck__(cls, other: Any) -> bool:
            return isinstance(other, cls.__mro__[1])

    class Moved(plain, metaclass=Same):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return plain.now(tz) + later

        @classmethod
        def utcnow(cls) -> Any:
            return plain.now(datetime.UTC).replace(tzinfo=None) + later

        today = now

    class Today(day, metaclass=Same):  # type: ignore[misc]
        @classmethod
        def today(cls) -> Any:
            return (plain.now() + later).date()

    for moved, of in ((Moved, plain), (Today, day)):
        moved.__name__ = moved.__qualname__ = of.__name__
        moved.__module__ = "datetime"
    datetime.datetime, datetime.date = Moved, Today  # type: ignore[misc]
    time.time, time.time_ns = lambda: now() + _LATER, lambda: now_ns() + _LATER * 10**9
    for name, given in (("localtime", 0), ("gmtime", 0), ("ctime", 0), ("strftime", 1)):
        setattr(time, name, _at(getattr(time, name), given, time.localtime))


def _at(plain: Callable[..., Any], given: int, local: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the clock that is told when it is, unless somebody says so."""
    import time

    def at(*arguments: Any) -> Any:
        if len(arguments) > given:
            return plain(*arguments)
        return plain(*arguments, local(time.time()) if given else time.time())

    return at


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


_PERTURBATIONS = {
    "clock": _clock, "draws": _draws, "host": _host, "limits": _limits, "listing": _listing,
    "processors": _processors, "terminal": _terminal, "user": _user,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
