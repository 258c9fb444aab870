"""A hyperparameter's value stands in YAML. This finds those that stand in Python instead.

    python -m saigen.config.hidden_defaults src/project src/saigen/training

It reads the syntax tree of every file and names each

- parameter, or field of a class, that has a default;
- `.get(key, default)`, `.setdefault`, `.pop(key, default)`, `getattr` with a default;
- `value or 3`, and `3 if value is None else value`;
- layer or function of torch.nn that is left to a default of the library's that is a fraction, such
  as the momentum of a normalization: an upgrade could change it in silence;
- number that may stand for a choice: any but -1, 0, 1, 2 and a half; those too where they are
  handed to a layer or a function of torch.nn.

Indexes, exponents, shifts, bit patterns, messages and arguments that say which axis or how many
(`dim=1`) are no choices. What is left and is none either says why, on its line or the one above::

    SIDE = 8  # saigen: constant, because the snapshot's images are 8 pixels wide
"""

import ast
import importlib
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ESCAPE = re.compile(r"#\s*saigen:\s*\w+, because\s+(.*)")
_FIX = "give it a key in conf/ and pass it in, or add `# saigen: constant, because ...`"
_PLAIN = (-1, 0, 1, 2, 0.5)
# Arguments that say where or how many, not how to learn.
_STRUCTURE = (
    "axis", "count", "digest_size", "dim", "dim0", "dim1", "end_dim", "indent", "keepdim",
    "keepdims", "maxlen", "n", "ndmin", "size", "stacklevel", "start", "start_dim", "step", "stop",
)  # fmt: skip
_TAKES_DEFAULT = {"get": 2, "pop": 2, "setdefault": 2, "getattr": 3, "getenv": 2}
_LAYERS = ("torch.nn.", "torch.optim.")
_NOTHING = ("None", "''", "[]", "()", "{}", "set()", "dict()", "list()", "tuple()")

Found = Iterator[tuple[ast.expr, str]]


@dataclass(frozen=True)
class Finding:
    """One place where Python holds a value that YAML should."""

    file: str
    line: int
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}\n    fix: {self.fix}"


def check_folder(folder: Path) -> list[Finding]:
    """Every finding in the Python files below a folder, or in one file."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("[!.]*.py"))
    return [found for file in files for found in check_source(file.read_text("utf-8"), str(file))]


def check_source(source: str, file: str) -> list[Finding]:
    """Every finding in one source text without an excuse, and every excuse without a finding."""
    reasons, lines = _escapes(source), source.splitlines()
    findings, used = list[Finding](), set[int]()
    for line, statement, what in _Reader(source, ast.parse(source, file)).found():
        above = [n for n in (line - 1, statement - 1) if lines[n - 1].lstrip().startswith("#")]
        excuses = [n for n in (line, statement, *above) if n in reasons]
        used.update(excuses[:1])
        if not excuses:
            findings.append(Finding(file, line, what, _FIX))
    for line, reason in reasons.items():
        if len(reason.split()) < 3:
            what = f"the escape gives no reason: {reason!r}"
            findings.append(Finding(file, line, what, "say in words why this is no hyperparameter"))
        elif line not in used:
            what = "the escape excuses nothing"
            findings.append(Finding(file, line, what, "delete the comment"))
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.line)


def _escapes(source: str) -> dict[int, str]:
    """The reason that each escape gives, by its line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: _ESCAPE.search(t.string) for t in tokens if t.type == tokenize.COMMENT}
    return {line: found.group(1) for line, found in comments.items() if found}


class _Reader:
    """Walks one tree, knowing for each node the statement around it and how it is used."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        self._source = source
        self._tree = tree
        self._parents = {c: p for p in ast.walk(tree) for c in ast.iter_child_nodes(p)}
        self._imports: dict[str, str] = {}  # `nn` for torch.nn
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self._imports |= {a.asname: a.name for a in node.names if a.asname}
            elif isinstance(node, ast.ImportFrom):
                names = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
                self._imports |= names

    def found(self) -> Iterator[tuple[int, int, str]]:
        """Line, first line of the statement around it, and what is there."""
        told: set[ast.AST] = set()
        for node in ast.walk(self._tree):  # outer nodes first
            for place, what in self._look(node):
                around = [parent for _, parent in self._up(place)]
                if place not in told and not any(map(_is_message, [place, *around])):
                    yield place.lineno, getattr(around[-1], "lineno", place.lineno), what
                    told.update(ast.walk(place))

    def _up(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """Each node with the one around it, from this one to its statement."""
        while not isinstance(node, ast.stmt):
            inner, node = node, self._parents[node]
            yield inner, node

    def _look(self, node: ast.AST) -> Found:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _parameters(node)
            case ast.ClassDef():
                yield from _fields(node)
            case ast.Call():
                yield from _fallback_call(node)
                yield from self._left_to_library(node)
            case ast.BoolOp(op=ast.Or(), values=[*_, last]):
                if _is_literal(last) and not self._is_test(node):
                    yield last, f"`{ast.unparse(node)}` falls back to a default"
            case ast.IfExp(test=ast.Compare(comparators=[ast.Constant(value=None)])):
                for part in filter(_is_literal, (node.body, node.orelse)):
                    yield part, f"`{ast.unparse(node)}` falls back to a default"
            case ast.Constant(value=int() | float()) if self._is_choice(node):
                yield node, f"the number {ast.unparse(node)} may be a hyperparameter"

    def _is_test(self, node: ast.AST) -> bool:
        parent = self._parents[node]
        return isinstance(parent, ast.If | ast.While | ast.Assert | ast.comprehension) or (
            isinstance(parent, ast.IfExp) and parent.test is node
        )

    def _is_choice(self, node: ast.Constant) -> bool:
        """Whether a number is no truth, index, exponent, shift, bit pattern or part of a text."""
        text = ast.get_source_segment(self._source, node) or ""
        if isinstance(node.value, bool) or text[:2].lower() in ("0x", "0b", "0o"):
            return False
        call: ast.Call | None = None
        direct = True  # handed to a call as it stands
        for inner, outer in self._up(node):
            match outer:
                case ast.Subscript(slice=part) | ast.AnnAssign(annotation=part) if part is inner:
                    return False
                case ast.BinOp(op=ast.Pow() | ast.LShift() | ast.RShift()) | ast.FormattedValue():
                    return False
                case ast.keyword(arg=name) if direct and name in _STRUCTURE:
                    return False
                case ast.Call(func=function) if direct and function is not inner:
                    call = outer
            direct &= isinstance(outer, ast.UnaryOp | ast.Tuple | ast.List | ast.keyword)
        to_layer = call is not None and self._full_name(call).startswith(_LAYERS)
        return to_layer or node.value not in _PLAIN

    def _left_to_library(self, node: ast.Call) -> Found:
        """The fractions that a layer takes from its own signature, because nobody passed them."""
        stated = {keyword.arg for keyword in node.keywords}
        name = self._full_name(node)
        if not name.startswith(_LAYERS) or None in stated:
            return
        left = list(_defaults_of(name).items())[len(node.args) :]
        fractions = [f"{n} = {v}" for n, v in left if n not in stated and isinstance(v, float)]
        if fractions:
            yield node.func, f"`{ast.unparse(node)}` leaves {', '.join(fractions)} to the library"

    def _full_name(self, call: ast.Call) -> str:
        """What is called, by the name under which it was imported."""
        head, _, rest = ast.unparse(call.func).partition(".")
        return f"{self._imports.get(head, head)}.{rest}".rstrip(".")


@cache
def _defaults_of(name: str) -> dict[str, object]:
    """The parameters of a callable of a library, in order, with their defaults."""
    module, _, last = name.rpartition(".")
    try:
        parameters = inspect.signature(getattr(importlib.import_module(module), last)).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Found:
    name, taken = getattr(node, "name", "a lambda"), node.args
    positional = [*taken.posonlyargs, *taken.args]
    late = [*positional[len(positional) - len(taken.defaults) :], *taken.kwonlyargs]
    for argument, value in zip(late, [*taken.defaults, *taken.kw_defaults], strict=True):
        if value is not None:
            what = f"parameter {argument.arg!r} of {name} has the default {ast.unparse(value)}"
            yield value, what


def _fields(node: ast.ClassDef) -> Found:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and part.value is not None:
            value = ast.unparse(part.value)
            if "ClassVar" not in ast.unparse(part.annotation) and "init=False" not in value:
                field = ast.unparse(part.target)
                yield part.value, f"field {field!r} of {node.name} has the default {value}"


def _fallback_call(node: ast.Call) -> Found:
    name = ast.unparse(node.func).rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    given = [keywords["default"]] if "default" in keywords else []
    given += node.args[_TAKES_DEFAULT.get(name, len(node.args) + 1) - 1 :]
    # a field that nobody passes has `init`; `setdefault(key, something)` files something away
    is_default = _is_literal if name == "setdefault" else _is_something
    if given and "init" not in keywords and is_default(given[0]):
        yield given[0], f"`{ast.unparse(node)}` falls back to a default"


def _is_literal(node: ast.expr) -> bool:
    """Whether an expression is a value as written; nothing and a truth are no hyperparameters."""
    literal = isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.Dict | ast.Set)
    return literal and _is_something(node) and ast.unparse(node) not in ("True", "False")


def _is_something(node: ast.expr) -> bool:
    """Whether it is other than None, an empty text or an empty collection."""
    return ast.unparse(node) not in _NOTHING


def _is_message(node: ast.AST) -> bool:
    """Whether a node says what is refused, so that all in it is words for a person."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith(("Refusal", "Failure"))
    return isinstance(node, ast.Raise | ast.Assert)


if __name__ == "__main__":
    everything = [found for folder in sys.argv[1:] for found in check_folder(Path(folder))]
    print(*everything, sep="\n", end="\n" * bool(everything))
    sys.exit(1 if everything else 0)
