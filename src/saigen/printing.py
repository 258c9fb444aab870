"""The one place that prints: what stands in a record, a config or a file name is text, and no
command to the terminal. Control characters, and those that turn the direction of a line, come out
as visible escapes on standard output and standard error, whoever writes there.
"""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

HIDDEN = re.compile(
    # C0, DEL and C1, marks and controls of direction, separators of lines, half characters
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def one_line(text: object) -> str:
    """The text with each control character as a visible escape (`U+001B`: backslash, u001b).

    Line ends too. The escapes are JSON's, so that a JSON document says the same afterwards.
    """
    return HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


class Visible:
    """A stream that escapes what it is given, but for line ends and tabs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text, control characters escaped; returns how long it was."""
        self.stream.write(visible(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def visible(text: str) -> str:
    """A text of several lines without any other control character."""
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


@contextmanager
def visible_output() -> Iterator[None]:
    """Inside, everything that Python prints is visible text."""
    output, errors = sys.stdout, sys.stderr
    for stream in (output, errors):
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a stream that took what is behind it for seekable
                stream.reconfigure(errors="backslashreplace")  # what the terminal has no letter for
    sys.stdout, sys.stderr = Visible(output), Visible(errors)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = output, errors


def bare(stream: TextIO) -> TextIO:
    """The stream itself, for what is escaped already: colours of our own, a bar, bytes."""
    return stream.stream if isinstance(stream, Visible) else stream


def visible_values(value: Any) -> Any:
    """A tree of plain values with every text in it on one line and visible."""
    if isinstance(value, dict):
        return {one_line(key): visible_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [visible_values(item) for item in value]
    return one_line(value) if isinstance(value, str) else value
