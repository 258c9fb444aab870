"""A document, and everything that somebody may have done to it: field by field, and as a whole."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

HOSTILE = (
    "../../outside/secret",
    "/etc/passwd",
    "--output=planted",
    "\x1b]0;taken\x07\x1b[2J",
    "a\0b",
    "\u202egpj.exe\u2066",
    "\x9b31m\nverdict  all is well",
    "${oc.env:HOME}",
    "$(touch planted)",
)
HUGE = (
    10**400,
    2**70,
    -(2**70),
    "x" * 200_000,
    ["x"] * 60_000,
    {str(n): n for n in range(100_000)},
)
RETYPED = (None, True, 0, -1, 0.5, "", "text", [], [[]], {}, {"": ""}, [None])
Change = Callable[[dict, Any], None]
GONE = object()


def deep(levels: int = 3000) -> str:
    """A JSON text of lists within each other."""
    return "[" * levels + "]" * levels


def fields(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The place of every field; of many alike, such as files with their digests, the first two."""
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    alike = len(items) > 6 and len({type(item) for _, item in items}) == 1
    for key, item in items[:2] if alike or isinstance(value, list) else items:
        yield (*place, key)
        if isinstance(item, dict | list):
            yield from fields(item, (*place, key))


def altered(document: dict, *, every: int = 1, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """Each field removed, of another type, huge and hostile; as a name and the bytes."""
    changes: list[tuple[str, tuple, Any]] = []
    for number, place in enumerate(fields(document)):
        name = ".".join(map(str, place))
        changes.append((f"{name} removed", place, GONE))
        changes += [
            (f"{name} = {str(kind[(number + shift) % len(kind)])[:24]!r}", place,
             kind[(number + shift) % len(kind)])
            for kind, shift in ((RETYPED, 0), (RETYPED, 5), (HOSTILE, 0), (HUGE, 0))
        ]  # fmt: skip
        changes.append((f"{name} renamed", place, HOSTILE[number % len(HOSTILE)]))
    for title, place, value in changes[first::every]:
        yield title, _json(_changed(document, place, value, rename=title.endswith("renamed")))


def _changed(document: dict, place: tuple, value: Any, *, rename: bool) -> dict:
    found = copy.deepcopy(document)
    holder: Any = found
    for part in place[:-1]:
        holder = holder[part]
    if value is GONE:
        del holder[place[-1]]
    elif rename and isinstance(holder, dict):
        holder[value] = holder.pop(place[-1])
    else:
        holder[place[-1]] = value
    return found


def _json(value: Any) -> bytes:
    import sys

    sys.set_int_max_str_digits(0)
    return json.dumps(value).encode()


def broken(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A whole text that is none any more."""
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "not UTF-8", b"\xff\xfe" + content
    yield "UTF-16", content.decode().encode("utf-16")
    yield "a NUL", content[:20] + b"\0" + content[20:]
    yield "a list", b"[1, 2]"
    yield "a word", b"null"
    yield "no number", content.replace(b"{", b'{"not": NaN, ', 1)
    yield "a key twice", content.replace(b"{", b'{"schema": 2, ', 1)
    yield "half a character", content.replace(b"{", b'{"\\ud800": "\\udfff", ', 1)
    yield "deep", deep().encode()
    yield "very deep", deep(200_000).encode()
    yield "deep inside", content.replace(b"{", b'{"x": ' + deep().encode() + b", ", 1)
    yield "100,000 keys", json.dumps({str(n): n for n in range(100_000)}).encode()
    yield "20 MiB", b" " * (20 << 20) + content
    yield "a huge number", b"1" * 5000
