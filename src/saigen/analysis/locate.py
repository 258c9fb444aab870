"""Where in the project's own code two observed processes part: file, line and variable."""

import ast
import json
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field

from saigen.analysis.observer import WEIGHTS
from saigen.documents import Document

_Call = dict[str, Any]
_Parted = tuple[str, int, str, str]  # file, line, variable, function


class Location(Document):
    """A line of the project, and what came out of it otherwise."""

    file: str
    line: int
    function: str
    text: str = Field(description="the line itself")
    variable: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.function}): `{self.text}`, {self.variable} differs"


def locate(a: Path, b: Path, root: Path, noise: Sequence[Path] = ()) -> Location | None:
    """The first line with equal inputs and unequal outputs in two logs; None if there is none.

    Calls are matched by function and arguments and not by their place in the log, so that a call
    inside a loader's worker meets its like in a process without workers. What differs from
    `noise` too, logs of equal runs with an equal outcome, moves nothing and is passed over,
    unless there is nothing else: a race that two slow, watched processes both lose.
    """
    left, right = _calls(a, root), _calls(b, root)
    quiet = {location[:3] for log in noise for location in _parted(left, _calls(log, root), root)}
    everything = list(_parted(left, right, root))
    found = [location for location in everything if location[:3] not in quiet] or everything
    if not found:
        return None
    # a model that is built to take trained weights may be built from any: look elsewhere first
    file, line, variable, function = min(
        found,
        key=lambda location: location[2].endswith(WEIGHTS) and location[3].endswith("__init__"),
    )
    text = (root / file).read_text(encoding="utf-8").splitlines()[line - 1 : line]
    return Location(
        file=file, line=line, function=function, text="".join(text).strip(), variable=variable
    )


def _calls(log: Path, root: Path) -> list[_Call]:
    files = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: path.stat().st_mtime)
    lines = (line for file in files for line in file.read_text(encoding="utf-8").splitlines())
    calls = [json.loads(line) for line in lines if line.endswith("}")]
    for call in calls:
        call.update(dict.fromkeys(("anew", "iterated", "headers"), frozenset()))
        if call["step"] is not None:  # what a loop assigns anew in each step is not its state
            anew, iterated, headers = _assigned(root / call["file"], call["function"])
            call.update(anew=anew, iterated=iterated, headers=headers)
            call["arguments"] = {n: d for n, d in call["arguments"].items() if n not in anew}
    # before its first step a continued loop has its state restored: that comes last
    loops = {(call["file"], call["function"]) for call in calls if call["step"] is not None}
    for call in calls:
        call["loop"] = (call["file"], call["function"]) in loops
    return sorted(calls, key=lambda call: call["loop"] and call["step"] is None)


def _parted(left: list[_Call], right: list[_Call], root: Path) -> Iterator[_Parted]:
    """Where calls with equal arguments part, innermost first; a loop behind what the calls in it
    remembered otherwise; then other weights than its like's, of which a loop may be the cause.
    """
    waiting: dict[Any, deque[_Call]] = defaultdict(deque)
    for call in right:
        waiting[_key(call)].append(call)
    pairs = [(call, queue.popleft()) for call in left if (queue := waiting[_key(call)])]
    known = {_key(call): call for call in left}
    first: list[_Parted] = []
    last: list[_Parted] = []
    for key, queue in waiting.items():
        for other in queue:
            if key in known:  # one process more than before
                (last if other["loop"] else first).extend(_lines(known[key], other))
                continue
            for name, location in _state(other, left, right, root):
                (last if other["loop"] or name.endswith(WEIGHTS) else first).append(location)
    for call, other in pairs:
        found = list(_lines(call, other))
        if found and call["loop"]:
            yield from first
            first = []
        yield from found
    yield from first + last


def _key(call: _Call) -> tuple[str, str, int | None, str]:
    arguments = json.dumps(call["arguments"], sort_keys=True)
    return call["file"], call["function"], call["step"], arguments


def _lines(a: _Call, b: _Call) -> Iterator[_Parted]:
    """The lines of two calls at which a variable comes out otherwise."""
    file, function, before = a["file"], a["function"], 0
    for (line, moved), (other, others) in zip(a["lines"], b["lines"], strict=False):
        if line != other:
            if before not in a["headers"]:  # else what it walks over ended sooner in one of them
                yield file, line, "the way taken", function
            return
        before = line
        for name in sorted(moved.keys() | others.keys()):
            # assigned anew in each step, a value that stays the same moves in the first one alone
            again = name in a["anew"] and not (name in moved and name in others)
            if moved.get(name) == others.get(name) or again:
                continue
            if name in a["iterated"]:  # handed over by what it walks over: no longer equal inputs
                return
            yield file, line, name, function
    if a["returns"] != b["returns"]:
        yield file, a["line"], "what it returns", function


def _state(
    other: _Call, left: list[_Call], right: list[_Call], root: Path
) -> Iterator[tuple[str, _Parted]]:
    """What a call remembers otherwise than its like, which was given the same, and the line that
    set it.
    """
    file, function, theirs = other["file"], other["function"], other["arguments"]
    defaults = _defaulted(root / file, function)
    for call in left:
        if (file, function, other["step"]) != (call["file"], call["function"], call["step"]):
            continue
        ours = call["arguments"]
        names = [n for n in (*ours, *(theirs.keys() - ours)) if ours.get(n) != theirs.get(n)]
        in_loop = other["step"] is not None
        if names and all(in_loop or n in defaults or _is_remembered(n) for n in names):
            for name in names:
                if setter := _setter(name, file, (*left, *right)):
                    yield name, setter
                    return


def _is_remembered(name: str) -> bool:
    """Whether a variable outlives a call: an attribute, weights, a global, a closure."""
    kept = "." in name or name.endswith(WEIGHTS) or name.startswith(("global ", "closure "))
    return kept and not name.endswith(".training")  # a mode, which the loop sets


def _setter(name: str, file: str, log: Sequence[_Call]) -> _Parted | None:
    """The first line that changes what a name stands for, whatever it is called there; the line
    that creates it, where none changes it.
    """
    found: list[tuple[tuple[bool, bool], _Parted]] = []
    for call in log:
        if call["function"].endswith("__init__"):
            continue
        there = set(call["arguments"])
        for line, moved in call["lines"]:
            for variable in moved:
                exact = (call["file"], variable) == (file, name)
                if _short(variable) == _short(name) and (exact or _is_remembered(variable)):
                    location = (call["file"], line, variable, call["function"])
                    found.append(((variable not in there, not exact), location))
            there |= moved.keys()
    return min(found, key=lambda change: change[0])[1] if found else None


def _short(name: str) -> str:
    """A name without what it is reached through: `self.n`, `module.n` and `closure n` are `n`."""
    return WEIGHTS if name.endswith(WEIGHTS) else re.split("[. ]", name)[-1]


@cache
def _assigned(file: Path, function: str) -> tuple[frozenset[str], frozenset[str], frozenset[int]]:
    """The variables that a function's loops assign without looking at what they were before,
    those that walk over something, and the lines on which they do.
    """
    found: set[str] = set()
    looked_at: set[str] = set()
    iterated: set[str] = set()
    headers: set[int] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef) or node.name != function.rpartition(".")[2]:
            continue
        for part in (part for loop in ast.walk(node) if isinstance(loop, ast.For)
                     for part in ast.walk(loop)):  # fmt: skip
            if isinstance(part, ast.Assign | ast.For | ast.AugAssign):
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                names = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
                value = part.iter if isinstance(part, ast.For) else part.value
                read = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                looked_at |= names if isinstance(part, ast.AugAssign) else names & read
                found |= names
                if isinstance(part, ast.For):
                    iterated |= names
                    headers.add(part.lineno)
    return frozenset(found - looked_at), frozenset(iterated), frozenset(headers)


@cache
def _defaulted(file: Path, function: str) -> frozenset[str]:
    """The parameters of a function that have a default."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function.rpartition(".")[2]:
            at, keys = node.args, zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            with_defaults = [*at.posonlyargs, *at.args][::-1][: len(at.defaults)]
            found |= {parameter.arg for parameter in with_defaults}
            found |= {parameter.arg for parameter, default in keys if default is not None}
    return frozenset(found)
