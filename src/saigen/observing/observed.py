"""Observed inputs: each thing that the project's code took in, once, with the line that asked.

An input counts where a line of the project's own asked for it, itself or by way of a library; what
Python, torch and the instrument read by themselves does not. What a forked process saw (a loader's
worker) comes back through an anonymous file in memory.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from pydantic import Field

from saigen.documents import Document, Line, Name
from saigen.project_code import is_instrument, is_project

Kind = Literal["file", "folder", "module", "variable", "program", "connection", "answer"]
ALWAYS_ANOTHER = "another at every call"  # in place of a value that says nothing
ABSENT = "not there"
_LINE_CHARACTERS, _NAME_CHARACTERS = 200, 300
# What these ask for they ask for by themselves, whoever called them.
_BY_THEMSELVES = (
    "<frozen importlib", "importlib/metadata/", "linecache.py", "inspect.py", "traceback.py",
    "gettext.py", "tempfile.py", "torch/_inductor/", "torch/_dynamo/", "torch/_functorch/",
    "site-packages/triton/", "multiprocessing/resource_tracker.py",
)  # fmt: skip


class Observed(Document):
    """One input from outside of the recipe."""

    kind: Kind
    name: Name = Field(description="path, module, variable, program, host, function")
    value: Line = Field(description="a value that may be shown, or the digest of what was read")
    line: Annotated[Line | None, Field(description="of the project that asked; null: none did")]


_Seen = dict[tuple[str, str, str], str | None]  # kind, name, value -> line
_sinks: list[_Seen] = []
_thread = threading.local()
_forked: list[int] = []  # the file to which a forked process tells, and what was read of it
_in_child = False
_covered: set[str] = set()
_root = [Path.cwd()]  # the folder of the project


def is_observing() -> bool:
    """Whether anybody wants to know, and this thread is not just looking at an input."""
    return bool(_sinks) and not getattr(_thread, "busy", False)


@contextmanager
def unobserved() -> Iterator[None]:
    """While what is done here is nobody's input."""
    before, _thread.busy = getattr(_thread, "busy", False), True
    try:
        yield
    finally:
        _thread.busy = before


def root() -> Path:
    """The folder of the project that is observed."""
    return _root[-1]


@contextmanager
def observed(root: Path) -> Iterator[_Seen]:
    """Collect what the project in a folder takes in while the body runs, also in what it forks."""
    _root.append(Path(os.path.abspath(root)))  # noqa: PTH100 - links are not followed
    if not _forked:
        handle = os.memfd_create("saigen-observed")
        fcntl.fcntl(handle, fcntl.F_SETFL, os.O_APPEND)
        _forked.extend((handle, 0))
        os.register_at_fork(after_in_child=_tell_the_parent)
    seen: _Seen = {}
    _sinks.append(seen)
    try:
        yield seen
    finally:
        collect_forked()
        _sinks[:] = [sink for sink in _sinks if sink is not seen]
        _root.pop()


def cover(paths: Iterable[Path]) -> None:
    """Say which files the recipe covers: the snapshot, what is declared."""
    _covered.update(os.path.abspath(path) for path in paths)  # noqa: PTH100


def covered() -> set[str]:
    """The files that the recipe covers."""
    return _covered


def note(kind: Kind, name: str, value: str, line: str | None) -> None:
    """Note an input, unless it was noted before."""
    key = (kind, _short(name, _NAME_CHARACTERS), value)
    if all(key in seen for seen in _sinks):
        return
    for seen in _sinks:
        seen.setdefault(key, line)
    if _in_child:
        os.write(_forked[0], json.dumps([*key, line]).encode() + b"\n")


def collect_forked() -> None:
    """Take what forked processes told since."""
    if _in_child or not _forked:
        return
    while text := os.pread(_forked[0], 1 << 20, _forked[1]):
        whole = text[: text.rfind(b"\n") + 1]
        if not whole:
            break
        _forked[1] += len(whole)
        for told in whole.splitlines():
            note(*json.loads(told))


def _tell_the_parent() -> None:
    global _in_child  # noqa: PLW0603 - of the process
    _in_child = True


def entries(seen: Mapping[tuple[str, str, str], str | None]) -> list[dict[str, Any]]:
    """What was observed, as a record holds it."""
    return [
        {"kind": kind, "name": name, "value": value, "line": line}
        for (kind, name, value), line in sorted(seen.items())
    ]


def first_entries() -> list[dict[str, Any]] | None:
    """What the outermost observer saw; None where there is none."""
    return entries(_sinks[0]) if _sinks else None


def merged(*lists: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    """Several lists of entries as one, each once; None where one of them is."""
    if None in lists:
        return None
    found: _Seen = {}
    for entry in (entry for told in lists for entry in told or ()):
        found.setdefault((entry["kind"], entry["name"], entry["value"]), entry["line"])
    return entries(found)


def asking_line(frame: FrameType | None, *, directly: bool = False) -> str | None:
    """The line of the project that asked, from the frame that was asked outwards; None where the
    instrument, the interpreter or a library asked. `directly`: only if no library lies between.
    """
    while frame is not None:
        role = _role(frame.f_code.co_filename)
        if role == "project":
            return f"{shown_path(frame.f_code.co_filename)}:{frame.f_lineno}"
        if role == "itself" or (directly and role == "library"):
            return None
        frame = frame.f_back
    return None


@cache
def _role(file: str) -> Literal["project", "library", "python", "itself"]:
    if is_instrument(file) or any(part in file for part in _BY_THEMSELVES):
        return "itself"
    if file.startswith("<"):
        return "python"
    if is_project(file):
        return "project"
    return "library" if "-packages" in file else "python"


def shown_path(path: str) -> str:
    """A path as a record holds it: from the project's folder, from the home, or whole."""
    home = os.path.expanduser("~")  # noqa: PTH111 - there may be none
    for head, sign in ((str(root()), ""), (home, "~/")):
        if path.startswith(head + os.sep) and head != os.sep:
            return sign + path[len(head) + 1 :]
    return path


def _short(text: str, most: int) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in text)
    return plain if len(plain) <= most else plain[: most - 3] + "..."


def of_line(text: str) -> str:
    """A text that may be shown, on one line of at most some 200 characters."""
    return _short(text, _LINE_CHARACTERS)
