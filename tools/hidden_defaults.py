"""Lint: a hyperparameter's value stands in YAML. This finds those that stand in Python instead.

    python tools/hidden_defaults.py [--strict] [FILE or FOLDER ...]

It names a number

- under a hyperparameter's name (`lr`, `label_smoothing`, `warmup_steps`: WORDS below), as a keyword
  argument, an entry of a dictionary or, unless it is -1, 0 or 1, a variable or an attribute;
- handed to what builds or trains: a class or function of torch.nn or torch.optim, or a class of
  your own that derives from one. A variable that is set once counts as the number it is set to;
- that a library chooses, if it is no whole one: `AdamW(parameters, lr=lr)` leaves betas and eps.

It names a default, too, a value that is taken where none is given: of a parameter or a field, of
`.get(key, 3)`, `.pop`, `.setdefault`, `getattr`, `getenv`, `value or 3`, `3 if value is None else
value`, `if value is None: value = 3`. In the project that is every number and text, for parameters
and fields every truth and class of torch.nn as well; in the instrument (src/saigen), whose
arguments are hardly ever hyperparameters, floats and numbers under a hyperparameter's name.

It does not name None, empty texts and collections, and sentinels; a default that a method has
because the library's method that it overrides has it; constants, sizes of a format, numbers in
arithmetic elsewhere; which axis or how many (`dim=1`); whole numbers that a library chooses (a
stride); what a message says. What stands in the body of an nn.Module's own methods is its author's,
but for fallbacks: `--strict` names that, too, and there every number but -1, 0, 1 and 2 that is no
index, exponent, shift or bit pattern.

What is found and is no hyperparameter says why, on its line or the one above::

    plain = SGD(parameters, lr=1.0)  # saigen: constant, because any rate will do here
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from source_names import (
    FUNCTIONS,
    Names,
    defaults_of,
    is_message,
    is_subclass,
    items,
    literal,
    named,
)

WORDS = {
    "alpha", "batch", "beta", "betas", "channels", "clip", "decay", "depth", "dilation", "dropout",
    "epochs", "epsilon", "eps", "gamma", "heads", "hidden", "kernel", "lambd", "layers", "lr",
    "momentum", "patience", "penalty", "rate", "seed", "sigma", "smoothing", "std", "stride", "tau",
    "temperature", "units", "warmup", "width",
}  # fmt: skip
READ = [Path("src/project"), Path("src/saigen/training"), Path("src/saigen/data")]
_ESCAPE = re.compile(r"#\s*saigen:\s*\w+, because\s+(.*)")
_FIX = "give it a key in conf/ and pass it in, or add `# saigen: constant, because ...`"
# Arguments that say where or how many, not how to learn.
_STRUCTURE = {
    "axis", "count", "dim", "dim0", "dim1", "dims", "end_dim", "ignore_index", "indent", "keepdim",
    "keepdims", "n", "ndmin", "normalized_shape", "pad", "shape", "size", "stacklevel", "start",
    "start_dim", "step", "stop",
}  # fmt: skip
_TAKES_DEFAULT = {"get": 2, "pop": 2, "setdefault": 2, "getattr": 3, "getenv": 2}
_OF_NOTHING = ("max", "min", "next")  # what these take as `default` is what nothing gives
_BUILDS = ("torch.nn.", "torch.optim.", "torch.amp.")

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Found = Iterator[tuple[ast.expr, str]]


@dataclass(frozen=True)
class Finding:
    """One place where Python holds a value that YAML should."""

    file: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}\n    fix: {self.fix}"


def check_folder(folder: Path, *, strict: bool) -> list[Finding]:
    """Every finding in the Python files below a folder, or in one file."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("[!.]*.py"))
    texts = ((file.read_text("utf-8"), str(file)) for file in files)
    return [found for text, file in texts for found in check_source(text, file, strict=strict)]


def check_source(source: str, file: str, *, strict: bool) -> list[Finding]:
    """Every finding in one source text without an excuse, and every excuse without a finding."""
    reasons, lines = _escapes(source), source.splitlines()
    findings, used = list[Finding](), set[int]()
    for places, internal, what in _Reader(source, Path(file)).found():
        above = [n - 1 for n in places if lines[n - 2].lstrip().startswith("#")]
        excuses = [n for n in (*places, *above) if n in reasons]
        used.update(excuses[:1])
        if not excuses and (strict or not internal):
            findings.append(Finding(file, places[0], what, _FIX))
    for line, reason in reasons.items():
        if len(reason.split()) < 3:
            what = f"the escape gives no reason: {reason!r}"
            findings.append(Finding(file, line, what, "say in words why this is no hyperparameter"))
        elif line not in used:
            what = "the escape excuses nothing"
            findings.append(Finding(file, line, what, "delete the comment, or its `saigen:`"))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.line)


def _escapes(source: str) -> dict[int, str]:
    """The reason that each escape gives, by its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: _ESCAPE.search(t.string) for t in tokens if t.type == tokenize.COMMENT}
    return {line: found.group(1) for line, found in comments.items() if found}


class _Reader:
    """Walks one tree, knowing for each node the statement around it and how it is used."""

    def __init__(self, source: str, file: Path) -> None:
        self._source = source
        self._tree = ast.parse(source, str(file))
        self._names = Names(self._tree, file)
        self._instrument = self._names.module.startswith("saigen.")
        self._parents = self._names.parents

    def found(self) -> Iterator[tuple[list[int], bool, str]]:
        """Its line and the others where its reason may stand (of the statement around it, of what a
        variable is set to), whether it is a module's own, and what it is.
        """
        told: set[ast.AST] = set()
        lines: tuple[Any, ...]
        for node in ast.walk(self._tree):  # outer nodes first
            for looked, internal in ((self._look(node), False), (self._handed(node), True)):
                for place, what in looked:
                    around = list(self._around(place))
                    if place in told or any(map(is_message, [place, *around])):
                        continue
                    lines = (place, [place, *around][-1], self._names.written(place))
                    own = internal and self._in_module(place)
                    yield [node.lineno for node in lines], own, what
                    told.update(ast.walk(place))

    def _around(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around one, from the next to its statement."""
        while node in self._parents and not isinstance(node, ast.stmt):
            node = self._parents[node]
            yield node

    def _in_module(self, node: ast.AST) -> bool:
        """Whether it stands in the body of a method of an nn.Module."""
        inside = list(self._names.outer(node, (*FUNCTIONS, ast.ClassDef)))
        method = any(isinstance(outer, FUNCTIONS) for outer in inside)
        return method and any(
            is_subclass(name, "torch.nn.Module")
            for outer in inside
            if isinstance(outer, ast.ClassDef)
            for base in outer.bases
            for name in self._names.lineage(self._names.full(base))
        )

    def _look(self, node: ast.AST) -> _Found:
        """The defaults."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from self._parameters(node)
            case ast.ClassDef():
                yield from self._fields(node)
            case ast.Call():
                yield from self._fallback_call(node)
            case ast.BoolOp(op=ast.Or(), values=[first, *_, last]):
                if not self._is_test(node) and self._is_default(last, named(first)):
                    yield last, f"`{ast.unparse(node)}` falls back to a default"
            case ast.IfExp(test=ast.Compare(left=asked, comparators=[ast.Constant(value=None)])):
                for part in (node.body, node.orelse):
                    if self._is_default(part, named(asked)):
                        yield part, f"`{ast.unparse(node)}` falls back to a default"
            case ast.If(test=ast.Compare(left=asked, comparators=[ast.Constant(value=None)])):
                for part in (*node.body, *node.orelse):
                    if (
                        isinstance(part, ast.Assign)
                        and ast.unparse(part.targets[0]) == ast.unparse(asked)
                        and self._is_default(part.value, named(asked))
                    ):
                        yield part.value, f"`{ast.unparse(part)}` falls back to a default"

    def _is_test(self, node: ast.AST) -> bool:
        parent = self._parents[node]
        return isinstance(parent, ast.If | ast.While | ast.Assert | ast.comprehension) or (
            isinstance(parent, ast.IfExp) and parent.test is node
        )

    def _is_default(self, node: ast.expr, name: str, *, own: bool = False) -> bool:
        """Whether an expression is a value that what has this name may hide; `own`: of a parameter
        or a field.
        """
        parts = items(self._names.value(node))
        if self._instrument:
            return any(isinstance(part, float) for part in parts) or (
                _is_hyper(name) and self._is_number(node)
            )
        if own and (not parts or isinstance(parts[0], bool)):
            made = node.func if isinstance(node, ast.Call) else node
            return bool(parts) or self._names.full(made).startswith(_BUILDS)
        return any(part != "" and not isinstance(part, bool) for part in parts)

    def _parameters(self, node: _Function) -> _Found:
        name, taken = getattr(node, "name", "a lambda"), node.args
        positional = [*taken.posonlyargs, *taken.args]
        late = [*positional[len(positional) - len(taken.defaults) :], *taken.kwonlyargs]
        for argument, value in zip(late, [*taken.defaults, *taken.kw_defaults], strict=True):
            if (
                value is not None
                and self._is_default(value, argument.arg, own=True)
                and not self._overrides(node, argument.arg, value)
            ):
                what = f"parameter {argument.arg!r} of {name} has the default {ast.unparse(value)}"
                yield value, what

    def _overrides(self, node: _Function, argument: str, value: ast.expr) -> bool:
        """Whether a method has this default because the library's method that it overrides does."""
        owner = self._parents[node]
        if not isinstance(owner, ast.ClassDef) or isinstance(node, ast.Lambda):
            return False
        library = [n for b in owner.bases for n in self._names.lineage(self._names.full(b))]
        there = [defaults_of(f"{name}.{node.name}").get(argument) for name in library]
        return node.name != "__init__" and self._names.value(value) in there

    def _fields(self, node: ast.ClassDef) -> _Found:
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and part.value is not None:
                field = ast.unparse(part.target)
                constant = "ClassVar" in ast.unparse(part.annotation) or field.isupper()
                if not constant and self._is_default(part.value, field, own=True):
                    value = ast.unparse(part.value)
                    yield part.value, f"field {field!r} of {node.name} has the default {value}"

    def _fallback_call(self, node: ast.Call) -> _Found:
        name = ast.unparse(node.func).rpartition(".")[2]
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        given = [keywords["default"]] if "default" in keywords and name not in _OF_NOTHING else []
        place = _TAKES_DEFAULT.get(name, len(node.args) + 1) - 1
        given += node.args[place:]
        key = node.args[place - 1 if place < len(node.args) else 0] if node.args else None
        # a field that nobody passes has `init`
        if given and "init" not in keywords and self._is_default(given[0], named(key)):
            yield given[0], f"`{ast.unparse(node)}` falls back to a default"

    def _handed(self, node: ast.AST) -> _Found:
        """The numbers that are handed to something, or stand under a hyperparameter's name."""
        match node:
            case ast.Call():
                yield from self._call(node)
            case ast.Dict():
                for key, held in zip(node.keys, node.values, strict=True):
                    if self._is_number(held) and _is_hyper(named(key)):
                        yield held, f"{named(key)!r} is given the number {ast.unparse(held)}"
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                held = node.value
                choice = held is not None and literal(held) not in (None, -1, 0, 1)
                if held and choice and self._is_number(held) and _is_hyper(named(target)):
                    yield held, f"{named(target)!r} is given the number {ast.unparse(held)}"
            case ast.Constant(value=int() | float()):
                if self._is_choice(node) and self._in_module(node):
                    yield node, f"the number {ast.unparse(node)} may be a hyperparameter"

    def _call(self, node: ast.Call) -> _Found:
        name = self._names.full(node.func)
        library = next((n for n in self._names.lineage(name) if n.startswith(_BUILDS)), "")
        defaults = defaults_of(library) if library == name else {}
        names = dict(enumerate(defaults))
        given = [(names.get(place, ""), value) for place, value in enumerate(node.args)]
        given += [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        for argument, value in given:
            if library and argument not in _STRUCTURE:
                yield from self._numbers(value, ast.unparse(node.func))
            elif _is_hyper(argument) and self._is_number(value):
                yield value, f"{argument!r} is given the number {ast.unparse(value)}"
        stated = {keyword.arg for keyword in node.keywords}
        if library and None not in stated:
            late = list(defaults.items())[len(node.args) :]
            left = [f"{n} = {v}" for n, v in late if n not in stated and _fraction(items(v))]
            if left:
                what = f"`{ast.unparse(node)}` leaves {', '.join(left)} to the library"
                yield node.func, what

    def _numbers(self, node: ast.expr, to: str) -> _Found:
        """The numbers in an argument: as it stands, in a sequence, or in arithmetic."""
        if self._is_number(node):
            is_set = f" = {self._names.value(node)}" if isinstance(node, ast.Name) else ""
            yield node, f"the number {ast.unparse(node)}{is_set} is handed to {to}"
        elif isinstance(node, ast.Tuple | ast.List):
            for part in node.elts:
                yield from self._numbers(part, to)
        elif isinstance(node, ast.BinOp) and not isinstance(node.op, ast.Pow):
            for part in (node.left, node.right):
                if literal(part) not in (-1, 0, 1, 2, 0.5):
                    yield from self._numbers(part, to)

    def _is_choice(self, node: ast.Constant) -> bool:
        """Whether a number is no truth, index, exponent, shift, bit pattern or part of a text."""
        text = ast.get_source_segment(self._source, node) or ""
        if isinstance(node.value, bool) or text[:2].lower() in ("0x", "0b", "0o"):
            return False
        inner: ast.AST = node
        for outer in self._around(node):
            match outer:
                case ast.Subscript(slice=part) | ast.AnnAssign(annotation=part) if part is inner:
                    return False
                case ast.BinOp(op=ast.Pow() | ast.LShift() | ast.RShift()) | ast.FormattedValue():
                    return False
                case ast.keyword(arg=name) if name in _STRUCTURE:
                    return False
                case ast.arguments():
                    return False  # a default
            inner = outer
        return node.value not in (-1, 0, 1, 2)

    def _is_number(self, node: ast.expr) -> bool:
        found = items(self._names.value(node))
        return bool(found) and all(type(value) in (int, float) for value in found)


def _is_hyper(name: str) -> bool:
    """Whether a name is a hyperparameter's, by one of its words."""
    return not WORDS.isdisjoint(name.lower().split("_"))


def _fraction(values: tuple[object, ...]) -> bool:
    """Whether one of them is a number that is not whole."""
    return any(isinstance(value, float) and value % 1 for value in values)


def main() -> int:
    """Print what is found; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="inside nn.Modules, too")
    parser.add_argument("paths", nargs="*", type=Path)
    chosen = parser.parse_args()
    paths = chosen.paths or READ
    everything = [f for path in paths for f in check_folder(path, strict=chosen.strict)]
    print(*everything, sep="\n", end="\n" * bool(everything))
    return 1 if everything else 0


if __name__ == "__main__":
    sys.exit(main())
