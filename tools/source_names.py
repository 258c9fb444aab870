"""What the names in a Python file stand for, read from its text: for the lints beside this file."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Names:
    """What the names of one file stand for."""

    def __init__(self, tree: ast.Module, file: Path) -> None:
        self.file = file
        parts = file.with_suffix("").parts
        inside = next(
            (n for n in range(len(parts), 0, -1) if parts[n - 1] == "src"), len(parts) - 1
        )
        self.module = ".".join(parts[inside:])
        self.imports: dict[str, str] = {}  # `nn` for torch.nn
        self.classes: dict[str, ast.ClassDef] = {}
        self.tree = tree
        self.parents = {c: p for p in ast.walk(tree) for c in ast.iter_child_nodes(p)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imports |= {a.asname: a.name for a in node.names if a.asname}
            elif isinstance(node, ast.ImportFrom):
                above = self.module.split(".")[: -node.level] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                self.imports |= {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
        self._bound = self._bindings()

    def full(self, node: ast.expr) -> str:
        """The name under which what is written `nn.Linear` was imported; empty if it is no name."""
        text = ast.unparse(node)
        head, _, rest = text.partition(".")
        if not re.fullmatch(r"[\w.]+", text):
            return ""
        own = f"{self.module}.{head}" if head in self.classes else head
        known = self.imports.get(head, own)
        return f"{known}.{rest}".rstrip(".")

    def lineage(self, name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """The classes of libraries that a class is or comes from, through those of the project."""
        module, _, last = name.rpartition(".")
        there = self if module == self.module else read(self.file, module)
        if there is None:
            yield name
        elif name not in seen and last in there.classes:
            for base in there.classes[last].bases:
                yield from there.lineage(there.full(base), seen | {name})

    def outer(self, node: ast.AST, kinds: Any) -> Iterator[Any]:
        """What of these kinds a node stands in, from the innermost."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, kinds):
                yield node

    def value(self, node: ast.expr) -> object:
        """What an expression is: a value as written, or a variable that is set to one, once."""
        return literal(self.written(node))

    def written(self, node: ast.expr) -> ast.expr:
        """What stands for a variable that is set once, at the place where it is; else the node."""
        if not isinstance(node, ast.Name):
            return node
        scopes = [*self.outer(node, FUNCTIONS), self.tree]
        bound = next((self._bound[s, node.id] for s in scopes if (s, node.id) in self._bound), [])
        return bound[0] if len(bound) == 1 and bound[0] else node

    def _bindings(self) -> dict[tuple[ast.AST, str], list[ast.expr | None]]:
        """What each name of a function, or of the file, is set to."""
        found: dict[tuple[ast.AST, str], list[ast.expr | None]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                parent = self.parents[node]
                plain = isinstance(parent, ast.Assign) and node in parent.targets
                plain = plain or isinstance(parent, ast.AnnAssign)
                name, value = node.id, parent.value if plain else None  # type: ignore[attr-defined]
            elif isinstance(node, ast.arg):
                name, value = node.arg, None
            else:
                continue
            scope = next(self.outer(node, FUNCTIONS), self.tree)
            found.setdefault((scope, name), []).append(value)
        return found


@cache
def read(near: Path, module: str) -> Names | None:
    """The names of a module whose file stands under the same folder of sources."""
    parts = module.split(".")
    for folder in near.parents if module else ():
        file = folder.joinpath(*parts).with_suffix(".py")
        if file.is_file():
            return Names(ast.parse(file.read_bytes()), file)
    return None


@cache
def library(name: str) -> Any:
    """What a library holds under a dotted name; None if it has no such thing."""
    parts = name.split(".")
    if not name or parts[0] in ("project", "saigen"):
        return None
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found
    return None


def is_subclass(name: str, of: str) -> bool:
    """Whether what a library holds under one name is a class that derives from another."""
    found, base = library(name), library(of)
    return isinstance(found, type) and isinstance(base, type) and issubclass(found, base)


@cache
def defaults_of(name: str) -> Mapping[str, object]:
    """The parameters of a callable of a library, in order, with their defaults."""
    try:
        parameters = inspect.signature(library(name)).parameters
    except (TypeError, ValueError):
        return {}
    return {name: parameter.default for name, parameter in parameters.items()}


def literal(node: ast.expr) -> object:
    """The value that is written; None if it is an expression, or None. Lists are made tuples."""
    try:
        found = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return tuple(found) if isinstance(found, list | dict | set) else found


def items(value: object) -> tuple[object, ...]:
    """The values of a sequence, or the one value; none of None."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


def named(node: ast.expr | None) -> str:
    """The name that something is told by: of a variable, an attribute or a key."""
    if isinstance(node, ast.Subscript):
        node = node.slice
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.strip("-").replace("-", "_")
    if isinstance(node, ast.Call):  # config.get("lr") or 0.1
        return named(node.args[0] if node.args else node.func)
    return getattr(node, "id", None) or getattr(node, "attr", None) or ""


def is_message(node: ast.AST) -> bool:
    """Whether a node says what is refused, so that all in it is words for a person."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith(("Refusal", "Failure"))
    return isinstance(node, ast.Raise | ast.Assert)
