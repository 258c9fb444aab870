"""Which source files a module imports, read from their text: nothing is run.

Every import statement counts, also one inside a function, and so do the literal names that
`importlib.import_module` is called with. A name that is only made while the program runs is not
seen here; `saigen/data/prepared.py` records what was imported all the same.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from saigen.digest import digest_file
from saigen.source_code import SOURCE


def imported_sources(root: Path, modules: Iterable[str]) -> dict[str, str]:
    """The digest of each file below src/ that importing these modules reads, theirs and those of
    the packages around them included, by path from the root.
    """
    return _read(root, [root / SOURCE], list(modules))


def sources_below(root: Path, scripts: Iterable[Path], folders: Sequence[Path]) -> dict[str, str]:
    """The same of the modules that scripts import from these folders below the root, without the
    instrument's own.
    """
    named = [name for script in scripts for name in _imported(script.read_bytes(), "")]
    return _read(root, folders, [n for n in named if n.partition(".")[0] != "saigen"])


def _read(root: Path, folders: Sequence[Path], waiting: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    seen = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if package := name.rpartition(".")[0]:
            waiting.append(package)
        if path := next(filter(None, (_file(folder, name) for folder in folders)), None):
            found[str(path.relative_to(root))] = digest_file(path)
            inside = name if path.name == "__init__.py" else package
            waiting += _imported(path.read_bytes(), inside)
    return dict(sorted(found.items()))


def _file(source: Path, module: str) -> Path | None:
    path = source.joinpath(*module.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imported(text: bytes, package: str) -> Iterator[str]:
    """The names of modules, and of what may be modules, that a program in a package imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # whoever imports it will say so
    if b"import_module" in text or b"__import__" in text:
        yield from _named_in_calls(tree)
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:  # statements only: looking at every expression takes five times as long
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                inside = getattr(node, part, ())
                waiting += inside if isinstance(inside, list) else ()


def _named_in_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)
