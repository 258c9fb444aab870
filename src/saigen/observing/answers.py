"""Answers of the machine that decide values: variables, processor count, clock, host, user.

Each is asked as before; where a line of the project asks, its answer is noted.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from saigen.observing import hook, observed
from saigen.observing.observed import ABSENT, ALWAYS_ANOTHER, asking_line, note, of_line
from saigen.observing.secrets import shown
from saigen.project_code import is_project
from saigen.secret_scan import redact

# What answers otherwise on another machine or under another user, and what at every call.
_MACHINE = {
    "os": ("cpu_count", "process_cpu_count", "sched_getaffinity", "getlogin", "uname", "sysconf",
           "get_terminal_size", "getuid", "geteuid"),
    "socket": ("gethostname", "getfqdn"),
    "platform": ("node", "platform", "processor", "machine", "release", "version", "system"),
    "resource": ("getrlimit",),
    "locale": ("getpreferredencoding", "getlocale"),
    "pwd": ("getpwuid", "getpwnam"),
}  # fmt: skip
_CHANGING = {
    "os": ("urandom", "getpid", "getppid", "getloadavg", "times"),
    "time": ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime"),
}
_OF_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
             "MASTER_PORT")  # fmt: skip
_set_here: set[str] = set()  # variables that this process set: no input


def install() -> None:
    """Let the machine's answers be noted, once a process."""
    if getattr(os.environ, "saigen_observed", False):
        return
    os.environ.saigen_observed = True  # type: ignore[attr-defined]
    _observe_variables()
    _observe_safetensors()
    sys.argv = _Arguments(sys.argv)
    for names, changing in ((_MACHINE, False), (_CHANGING, True)):
        for name, functions in names.items():
            module = importlib.import_module(name)
            for function in functions:
                if plain := getattr(module, function, None):
                    setattr(module, function, _observed(plain, f"{name}.{function}()", changing))


def _observe_safetensors() -> None:
    """Its files are opened in Rust, which no hook sees."""
    import safetensors

    plain = safetensors.safe_open

    def opened(filename: Any, *arguments: Any, **options: Any) -> Any:
        hook.look("open", sys._getframe(1), filename, "rb", os.O_RDONLY)
        return plain(filename, *arguments, **options)

    for name in ("safetensors", "safetensors.torch", "safetensors.numpy"):
        if getattr(sys.modules.get(name), "safe_open", None) is plain:
            vars(sys.modules[name])["safe_open"] = opened


def _observed(plain: Callable[..., Any], name: str, changing: bool) -> Callable[..., Any]:
    @functools.wraps(plain)
    def asked(*arguments: Any, **options: Any) -> Any:
        found = plain(*arguments, **options)
        if observed.is_observing():
            _answered(sys._getframe(1), name, ALWAYS_ANOTHER if changing else found, changing)
        return found

    return asked


def _answered(frame: FrameType, name: str, value: Any, changing: bool) -> None:
    with observed.unobserved(), contextlib.suppress(Exception):
        # what changes at each call is asked by whatever writes a log
        own = is_project(frame.f_code.co_filename)
        if at := asking_line(frame) if own or not changing else None:
            text = sorted(value) if isinstance(value, set) else value
            note("answer", name, redact(of_line(str(text))), at)


def _observe_variables() -> None:
    kind = type(os.environ)
    read, write = kind.__getitem__, kind.__setitem__

    def reading(self: Any, name: Any) -> Any:
        value = None
        try:
            value = read(self, name)
        finally:
            if observed.is_observing():
                _variable(sys._getframe(1), name, value)
        return value

    def writing(self: Any, name: Any, value: Any) -> None:
        write(self, name, value)
        _set_here.add(os.fsdecode(name))

    kind.__getitem__, kind.__setitem__ = reading, writing  # type: ignore[method-assign]


def _variable(frame: FrameType, name: str | bytes, value: str | bytes | None) -> None:
    with observed.unobserved(), contextlib.suppress(Exception):
        name = os.fsdecode(name)
        # what is not set a library asks for by itself, time and again
        line = asking_line(frame, directly=value is None)
        # how many processes there are stands in the record, and which one this is shows in its line
        if line and name not in {*_set_here, *_OF_RANKS} and not name.startswith("SAIGEN_"):
            told = ABSENT if value is None else shown(name, os.fsdecode(value))
            note("variable", name, told, line)


class _Arguments(list[str]):
    """sys.argv, which says who asks for it."""

    def __getitem__(self, place: Any) -> Any:
        _asked_for_arguments(sys._getframe(1), self)
        return super().__getitem__(place)

    def __iter__(self) -> Iterator[str]:
        _asked_for_arguments(sys._getframe(1), self)
        return super().__iter__()


def _asked_for_arguments(frame: FrameType, arguments: list[str]) -> None:
    if observed.is_observing() and (line := asking_line(frame)):
        with observed.unobserved():
            words = list.__getitem__(arguments, slice(1, None))
            note("answer", "sys.argv", redact(of_line(" ".join(words))), line)
