"""What a recipe may not hold: anything of this machine or user, and no number that is none."""

import contextlib
import functools
import getpass
import math
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

from saigen.config.keys import leaves
from saigen.errors import Refusal

_PATHS = (
    (re.compile(r"([/~\\]|[A-Za-z]:[\\/]|file:)|.*[\s=:,;'\"(](/[\w.+-]+){2,}", re.DOTALL),
     "an absolute path"),
    (re.compile(r"(.*[\\/])?\.\.([\\/]|$)", re.DOTALL), "a path that leaves the project"),
    (re.compile(r".*(\$\{?[A-Za-z_]|%[A-Z_]{2,}%)", re.DOTALL), "a variable of the environment"),
)  # fmt: skip
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f]")
_CONTEXT = re.compile(r"[/@:\\]")


def refuse_machine(values: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Raise Refusal on the first value that another machine, user or moment could not share."""
    for key, value in leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            raise Refusal(
                f"{key} is no finite number",
                where=where(key),
                expected="a finite number, or null",
                got=str(value),
                fix=f"write a number, or null if {key} can be absent",
            )
        if isinstance(value, str) and (reason := _reason(value)):
            raise Refusal(
                f"{key} holds {reason}",
                where=where(key),
                expected="a value that means the same on every machine; paths from the root of "
                "the project, such as data/digits.csv",
                got=repr(value),
                fix="write the path from the root of the project, or leave out what names this "
                "machine",
            )


def _reason(text: str) -> str:
    """Why a text belongs to one machine or to no text at all, or an empty text."""
    if _HIDDEN.search(text):
        return "a control character"
    matches = (what for pattern, what in _PATHS if pattern.match(text))
    names = (f"the {what} of this machine" for what, name in _names() if _names_it(text, name))
    return next(matches, "") or next(names, "")


def _names_it(text: str, name: str) -> bool:
    """Whether a text names the machine or the user. A plain word alone may mean something else:
    on a host called `digits`, `data.name: digits` stays what it is everywhere.
    """
    if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
        return False
    return bool(_CONTEXT.search(text)) or re.search(r"[\d.-]", name) is not None


@functools.cache
def _names() -> list[tuple[str, str]]:
    names = (
        ("host name", "localhost"),
        ("address", "127.0.0.1"),
        ("host name", socket.gethostname()),
    )
    user = []
    with contextlib.suppress(OSError, KeyError, ImportError):  # a container's UID has no name
        user.append(("user", getpass.getuser()))
    return [(what, name) for what, name in (*names, *user) if name]
