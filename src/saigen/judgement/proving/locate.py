"""Where in the project's own code two observed processes part: file, line and variable."""

import ast
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from saigen.judgement.proving.observer import WEIGHTS
from saigen.records.document import Document

_Call = dict[str, Any]


class Place(Document):
    """A line of the project, and what came out of it otherwise."""

    file: str
    line: int
    function: str
    text: str = Field(description="the line itself")
    variable: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function}): `{self.text}`, {self.variable} differs"


def locate(a: Path, b: Path, root: Path, noise: Sequence[Path] = ()) -> Place | None:
    """The first line with equal inputs and unequal outputs in two logs; None if there is none.

    Calls are matched by function and arguments and not by their place in the log, so that a call
    inside a loader's worker meets its like in a process without workers. What differs from
    `noise` too, logs of equal runs with an equal outcome, moves nothing and is passed over,
    unless there is nothing else: a race that two slow, watched processes both lose.
    """
    left, right = _calls(a), _calls(b)
    quiet = {place[:3] for log in noise for place in _parted(left, _calls(log), root)}
    everything = list(_parted(left, right, root))
    found = [place for place in everything if place[:3] not in quiet] or everything
    # a model that is built to take trained weights may be built from any: look elsewhere first
    found.sort(key=lambda place: place[2] == WEIGHTS and place[3].endswith("__init__"))
    return _place(root, *found[0]) if found else None


def _parted(
    left: list[_Call], right: list[_Call], root: Path
) -> Iterator[tuple[str, int, str, str]]:
    """File, line, variable and function where calls with equal arguments part, innermost first;
    then what calls without a like remembered otherwise.
    """
    waiting: dict[Any, list[_Call]] = defaultdict(list)
    for call in right:
        waiting[_key(call)].append(call)
    for queue in waiting.values():
        queue.reverse()
    for call in left:
        queue = waiting[_key(call)]
        for line, variable in _lines(call, queue.pop()) if queue else ():
            yield call["file"], line, variable, call["function"]
    known = {_key(call): call for call in left}
    for key, queue in waiting.items():
        for other in queue:
            if key in known:  # one process more than before
                for line, variable in _lines(known[key], other):
                    yield other["file"], line, variable, other["function"]
            else:
                yield from _state(other, left, root)


def _lines(a: _Call, b: _Call) -> Iterator[tuple[int, str]]:
    """The lines of two calls at which a variable comes out otherwise."""
    for (line_a, moved_a), (line_b, moved_b) in zip(a["lines"], b["lines"], strict=False):
        if line_a != line_b:
            yield line_a, "the way taken"
            return
        for name in sorted(moved_a.keys() | moved_b.keys()):
            if moved_a.get(name) != moved_b.get(name):
                yield line_a, name
    if a["returns"] != b["returns"]:
        yield a["line"], "what it returns"


def _state(other: _Call, log: list[_Call], root: Path) -> Iterator[tuple[str, int, str, str]]:
    """What a call remembers otherwise than its like, at the line that set it: an attribute of
    `self`, or the value of a mutable default.
    """
    for call in log:
        if (other["file"], other["function"]) != (call["file"], call["function"]):
            continue
        ours, theirs = call["arguments"], other["arguments"]
        names = [name for name in ours if ours[name] != theirs.get(name)]
        remembered = _defaulted(root / call["file"], call["function"])
        if not names or not all(n.startswith("self.") or n in remembered for n in names):
            continue
        for setter in log:
            begins = setter["function"].endswith("__init__")
            for line, moved in setter["lines"]:
                if names[0] in moved and setter["file"] == call["file"] and not begins:
                    yield call["file"], line, names[0], setter["function"]
                    return


@cache
def _defaulted(file: Path, function: str) -> frozenset[str]:
    """The parameters of a function that have a default."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function.rpartition(".")[2]:
            places = [*node.args.posonlyargs, *node.args.args]
            names = places[len(places) - len(node.args.defaults) :]
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return frozenset(a.arg for a in (*names, *(a for a, d in pairs if d is not None)))
    return frozenset()


def _calls(log: Path) -> list[_Call]:
    files = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: path.stat().st_mtime)
    return [
        json.loads(line)
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.endswith("}")
    ]


def _key(call: _Call) -> tuple[str, str, str]:
    return call["file"], call["function"], json.dumps(call["arguments"], sort_keys=True)


def _place(root: Path, file: str, line: int, variable: str, function: str) -> Place:
    lines = (root / file).read_text(encoding="utf-8").splitlines()
    text = lines[line - 1].strip() if line <= len(lines) else ""
    return Place(file=file, line=line, function=function, text=text, variable=variable)
