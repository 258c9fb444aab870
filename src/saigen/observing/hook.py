"""The audit hook: files, folders, programs and connections that the project's code asks for.

A hook can never be taken away again (PEP 578), so one is added, and it asks first whether anybody
observes. What a library reads in C, without Python's `open`, is not seen.
"""

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType
from typing import Any

from saigen.digest import digest_bytes, digest_value
from saigen.digest_cache import digest_unless_seen
from saigen.observing import observed
from saigen.observing.observed import ABSENT, ALWAYS_ANOTHER, asking_line, note, shown_path
from saigen.project_code import is_instrument
from saigen.secret_scan import redact

_WRITES = os.O_WRONLY | os.O_RDWR
_MADE = os.O_CREAT | os.O_TRUNC
SYSTEM = ("/proc/", "/sys/", "/dev/")
_NOT_READ = ("/dev/null", "/dev/tty", "/dev/shm/", "/proc/self/")
_SYSTEM_BYTES = 1 << 20
readers: list[set[str]] = []  # who wants to know every file that is opened for reading
_written: set[str] = set()  # by this process: what it reads of it is its own


def install() -> None:
    """Add the hook, once a process."""
    if not getattr(sys, "_saigen_hook", False):
        sys._saigen_hook = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _EVENTS:
        if readers and event == "open" and not arguments[2] & _WRITES:
            _read(arguments[0])
        look(event, sys._getframe(1), *arguments)


def _read(path: Any) -> None:
    with contextlib.suppress(Exception):
        for reader in readers if isinstance(path, str | bytes | os.PathLike) else ():
            reader.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - links are not followed


def look(event: str, frame: FrameType, *arguments: Any) -> None:
    """Note what an event took in, if a line of the project asked for it."""
    if observed.is_observing():
        # nothing of ours ends the event
        with observed.unobserved(), contextlib.suppress(Exception):
            _EVENTS[event](frame, *arguments)


def _opened(frame: FrameType, path: Any, _: Any, flags: int) -> None:
    if not isinstance(path, str | bytes | os.PathLike):
        return
    full = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed
    if flags & _WRITES and (flags & _MADE or not os.path.lexists(full)):
        if flags & os.O_TRUNC or not os.path.lexists(full):
            _written.add(full)
        return
    if full in _written or is_covered(full):
        return
    if full.endswith((".py", ".pyc")):
        line = asking_line_of_module(frame)
        # the instrument reads source, too, to digest it
        if line or frame.f_code.co_filename.startswith("<frozen importlib"):
            note_module(full, line)
    elif line := asking_line(frame):
        note("file", shown_path(full), digest_of(full), line)


def _listed(frame: FrameType, path: Any = None, *_: Any) -> None:
    if path is not None and not isinstance(path, str | bytes | os.PathLike):
        return
    full = os.path.abspath(os.fsdecode(path or "."))  # noqa: PTH100 - links are not followed
    if not is_covered(full + os.sep) and (line := asking_line(frame)):
        names = sorted(os.listdir(full)) if os.path.isdir(full) else ABSENT  # noqa: PTH112, PTH208
        shown = [name for name in names if name != "__pycache__"] if names != ABSENT else []
        note("folder", f"{shown_path(full)}/", digest_value(shown) if shown else ABSENT, line)


def _started(frame: FrameType, program: Any, arguments: Any = (), *_: Any) -> None:
    if line := asking_line(frame, directly=True):
        words = [os.fsdecode(w) for w in arguments] if isinstance(arguments, list | tuple) else []
        text = " ".join(words) or os.fsdecode(program)
        note("program", redact(text), "what it did is not known", line)


def _connected(frame: FrameType, _: Any, where: Any) -> None:
    if line := asking_line(frame):
        host = ":".join(map(str, where[:2])) if isinstance(where, tuple) else str(where)
        note("connection", redact(host), "what it told is not known", line)


def _looked_up(frame: FrameType, host: Any, port: Any = None, *_: Any) -> None:
    _connected(frame, None, (host, port))


def _database(frame: FrameType, path: Any) -> None:
    _opened(frame, path, None, os.O_RDONLY)


def _moved(_: FrameType, source: Any, target: Any, *__: Any) -> None:
    if os.path.abspath(os.fsdecode(source)) in _written:  # noqa: PTH100
        _written.add(os.path.abspath(os.fsdecode(target)))  # noqa: PTH100


_EVENTS: dict[str, Callable[..., None]] = {
    "open": _opened, "os.listdir": _listed, "os.scandir": _listed, "os.rename": _moved,
    "subprocess.Popen": _started, "os.system": _started, "os.posix_spawn": _started,
    "os.exec": _started, "socket.connect": _connected, "socket.getaddrinfo": _looked_up,
    "sqlite3.connect": _database,
}  # fmt: skip


def note_module(path: str, line: str | None) -> None:
    """Note a program file that is no part of the recipe, by its source."""
    if path.endswith(".pyc"):
        with contextlib.suppress(ValueError):
            source = source_from_cache(path)
            path = source if os.path.isfile(source) else path  # noqa: PTH113
    if not is_covered(path):
        note("module", shown_path(path), digest_of(path), line)


def asking_line_of_module(frame: FrameType | None) -> str | None:
    """The line of the project that imports, through Python's own machinery for it."""
    while frame is not None and frame.f_code.co_filename.startswith(("<frozen importlib", "<")):
        frame = frame.f_back
    return asking_line(frame)


def is_covered(path: str) -> bool:
    """Whether the recipe covers a path already: code, what was prepared, what is installed."""
    return (
        path.startswith((*_installed(), *_NOT_READ, *_own(observed.root())))
        or is_instrument(path)
        or any(path == known for known in observed.covered())
        or (path.endswith((".py", ".pyc")) and _is_source(path))
    )


def _is_source(path: str) -> bool:
    """Whether a program file is in the code layer: below src/, and in no linked folder of it."""
    folder, source = os.path.realpath(os.path.dirname(path)), _source(observed.root())  # noqa: PTH120
    return f"{folder}/".startswith(source)


@cache
def _source(root: Path) -> str:
    return f"{os.path.realpath(root / 'src')}/"


@cache
def _installed() -> tuple[str, ...]:
    import sysconfig

    paths = {sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(f"{path}{os.sep}" for path in paths)


@cache
def _own(root: Path) -> tuple[str, ...]:
    """Of the project's folder what is made from the recipe."""
    return tuple(f"{root}/{name}/" for name in ("prepared", ".saigen", ".git"))


def digest_of(path: str) -> str:
    """What is read under a path, as a digest."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if stat.S_ISDIR(mode):
            return "a folder"
        if path.startswith(SYSTEM):
            if not stat.S_ISREG(mode):
                return ALWAYS_ANOTHER
            with open(path, "rb") as file:  # noqa: PTH123
                return digest_bytes(file.read(_SYSTEM_BYTES))
        return digest_unless_seen(Path(path), observed.root()) if stat.S_ISREG(mode) else "a pipe"
    except FileNotFoundError:
        return ABSENT
    except OSError as error:
        return error.strerror or "unreadable"
