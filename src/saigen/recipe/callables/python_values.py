"""Values that stand in Python: what a syntax tree holds that may be a hyperparameter."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache

_PLAIN = (-1, 0, 1, 2, 0.5)
# Arguments that say where or how many, not how to learn.
_STRUCTURE = {
    *("axis", "dim", "dim0", "dim1", "start_dim", "end_dim", "start", "stop", "step", "size"),
    *(
        "indent",
        "digest_size",
        "count",
        "maxlen",
        "keepdim",
        "keepdims",
        "ndmin",
        "n",
        "stacklevel",
    ),
}
_TAKES_DEFAULT = {"get": 2, "pop": 2, "setdefault": 2, "getattr": 3, "getenv": 2}
_SHAPING = (ast.Pow, ast.LShift, ast.RShift)
_LAYERS = ("torch.nn.", "torch.optim.")
_REFUSALS = ("Refusal", "Failure")


class Reader:
    """Walks one tree, knowing for each node the statement around it and how it is used."""

    def __init__(self, source: str, tree: ast.Module) -> None:
        self._source = source
        self._tree = tree
        self._imports = _imports(tree)
        self._parents = {c: p for p in ast.walk(tree) for c in ast.iter_child_nodes(p)}

    def found(self) -> Iterator[tuple[int, int, str]]:
        """Line, first line of the statement around it, and what is there."""
        told: set[ast.AST] = set()
        for node in ast.walk(self._tree):  # outer nodes first
            for place, what in self._look(node):
                if place not in told and not self._is_message(place):
                    yield place.lineno, self._statement(place).lineno, what
                    told.update(ast.walk(place))

    def _look(self, node: ast.AST) -> Iterator[tuple[ast.expr, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _parameters(node)
        elif isinstance(node, ast.ClassDef):
            yield from _fields(node)
        elif isinstance(node, ast.Call):
            yield from _fallback_calls(node)
            yield from self._left_to_library(node)
        elif isinstance(node, ast.BoolOp):
            yield from self._fallback_or(node)
        elif isinstance(node, ast.IfExp):
            yield from _fallback_none(node)
        elif isinstance(node, ast.Constant) and self._is_choice(node):
            yield node, f"the number {ast.unparse(node)} may be a hyperparameter"

    def _fallback_or(self, node: ast.BoolOp) -> Iterator[tuple[ast.expr, str]]:
        parent = self._parents[node]
        is_test = isinstance(parent, ast.If | ast.While | ast.Assert | ast.comprehension) or (
            isinstance(parent, ast.IfExp) and parent.test is node
        )
        if isinstance(node.op, ast.Or) and not is_test and _is_literal(node.values[-1]):
            yield node.values[-1], f"`{ast.unparse(node)}` falls back to a default"

    def _is_choice(self, node: ast.Constant) -> bool:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return False
        text = ast.get_source_segment(self._source, node) or ""
        if text[:2].lower() in ("0x", "0b", "0o") or self._has_other_role(node):
            return False
        argument = self._argument_of(node)
        if argument is None:
            return node.value not in _PLAIN
        call, name = argument
        if name in _STRUCTURE:
            return False
        return self._is_layer(call) or node.value not in _PLAIN

    def _has_other_role(self, node: ast.AST) -> bool:
        """Whether a number is an index, an exponent, a shift, or part of a text or annotation."""
        child, parent = node, self._parents.get(node)
        while parent is not None and not isinstance(parent, ast.stmt):
            if isinstance(parent, ast.Subscript) and parent.slice is child:
                return True
            if isinstance(parent, ast.BinOp) and isinstance(parent.op, _SHAPING):
                return True
            if isinstance(parent, ast.FormattedValue | ast.JoinedStr):
                return True
            child, parent = parent, self._parents.get(parent)
        if isinstance(parent, ast.AnnAssign) and parent.annotation is child:
            return True
        return isinstance(parent, ast.arguments)

    def _is_message(self, node: ast.AST) -> bool:
        """Whether a node is part of what is said when something is refused."""
        while not isinstance(node, ast.stmt):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(_REFUSALS):
                return True
            node = self._parents[node]
        return isinstance(node, ast.Raise | ast.Assert)

    def _left_to_library(self, node: ast.Call) -> Iterator[tuple[ast.expr, str]]:
        """The fractions that a layer takes from its own signature, because nobody passed them."""
        if not self._is_layer(node) or any(keyword.arg is None for keyword in node.keywords):
            return
        stated = {keyword.arg for keyword in node.keywords}
        parameters = library_defaults(self._full_name(node))
        left = [p for i, p in enumerate(parameters) if i >= len(node.args) and p[0] not in stated]
        if fractions := [f"{n} = {value}" for n, value in left if isinstance(value, float)]:
            yield node.func, f"`{ast.unparse(node)}` leaves {', '.join(fractions)} to the library"

    def _argument_of(self, node: ast.AST) -> tuple[ast.Call, str] | None:
        """The call that a number is handed to as it stands, and the keyword, if it is one."""
        parent = self._parents[node]
        if isinstance(parent, ast.UnaryOp | ast.Tuple | ast.List):
            return self._argument_of(parent)
        if isinstance(parent, ast.keyword):
            call = self._parents[parent]
            return (call, parent.arg or "") if isinstance(call, ast.Call) else None
        return (parent, "") if isinstance(parent, ast.Call) and parent.func is not node else None

    def _is_layer(self, call: ast.Call) -> bool:
        return self._full_name(call).startswith(_LAYERS)

    def _full_name(self, call: ast.Call) -> str:
        """What is called, by the name under which it was imported."""
        head, _, rest = ast.unparse(call.func).partition(".")
        return f"{self._imports.get(head, head)}.{rest}".rstrip(".")

    def _statement(self, node: ast.AST) -> ast.stmt:
        while not isinstance(node, ast.stmt):
            node = self._parents[node]
        return node


def _imports(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: `nn` for torch.nn."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def _parameters(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
) -> Iterator[tuple[ast.expr, str]]:
    name = getattr(node, "name", "a lambda")
    positional = [*node.args.posonlyargs, *node.args.args]
    late = positional[len(positional) - len(node.args.defaults) :]
    pairs = [*zip(late, node.args.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d]
    for argument, default in pairs:
        yield (
            default,
            f"parameter {argument.arg!r} of {name} has the default {ast.unparse(default)}",
        )


def _fields(node: ast.ClassDef) -> Iterator[tuple[ast.expr, str]]:
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and part.value is not None:
            if "ClassVar" in ast.unparse(part.annotation) or "init=False" in ast.unparse(
                part.value
            ):
                continue
            field = ast.unparse(part.target)
            yield (
                part.value,
                f"field {field!r} of {node.name} has the default {ast.unparse(part.value)}",
            )


def _fallback_calls(node: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
    if name in _TAKES_DEFAULT:
        given += node.args[_TAKES_DEFAULT[name] - 1 :]
    # `setdefault(key, something)` files something away; only a literal is a default
    inner = any(keyword.arg == "init" for keyword in node.keywords)  # a field that nobody passes
    if (
        given
        and not inner
        and (_is_literal(given[0]) or not (name == "setdefault" or _is_nothing(given[0])))
    ):
        yield given[0], f"`{ast.unparse(node)}` falls back to a default"


def _fallback_none(node: ast.IfExp) -> Iterator[tuple[ast.expr, str]]:
    none = isinstance(node.test, ast.Compare) and any(
        isinstance(part, ast.Constant) and part.value is None for part in node.test.comparators
    )
    literal = [part for part in (node.body, node.orelse) if _is_literal(part)]
    if none and literal:
        yield literal[0], f"`{ast.unparse(node)}` falls back to a default"


def _is_literal(node: ast.expr) -> bool:
    """Whether an expression is a value as written; nothing and a truth are no hyperparameters."""
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, bool) and not _is_nothing(node)
    return isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Set) and not _is_nothing(node)


def _is_nothing(node: ast.expr) -> bool:
    """None, an empty text, or an empty collection."""
    if isinstance(node, ast.Constant):
        return node.value is None or node.value == ""
    return ast.unparse(node) in ("[]", "()", "{}", "set()", "dict()", "list()", "tuple()")


@cache
def library_defaults(name: str) -> tuple[tuple[str, object], ...]:
    """The parameters of a callable of a library, in order, with their defaults."""
    module, _, last = name.rpartition(".")
    try:
        called = getattr(importlib.import_module(module), last)
        parameters = inspect.signature(called).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return ()
    return tuple((name, parameter.default) for name, parameter in parameters.items())
