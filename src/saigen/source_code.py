"""The code layer: the source that runs, byte for byte, found by reading its imports.

In it is what a training and an evaluation import: an edit of `diff`, or of a model that the config
does not name, makes no other run. Nothing is run to know it. Every import statement counts, also
one inside a function, and so do the literal names that `importlib.import_module` is called with.
Where a file of the project may import by a name that is only made while the program runs, all that
stands below src/ beside the instrument is in the layer. What is imported unseen is recorded all the
same, by `data/prepared.py`, `runs/metadata.py` and `observing/`.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from saigen.config.callables import targets
from saigen.config.keys import value_at
from saigen.digest import digest_file
from saigen.recipe import Layer

SOURCE = Path("src")
INSTRUMENT = f"{SOURCE}/saigen/"
# how a program may import what its import statements do not name
_LOADS = re.compile(
    rb"importlib|__import__|__path__|pkgutil|runpy|\b(exec|eval|execfile)\(|import \*|get_class|"
    rb"get_method|get_object|instantiate|pickle|joblib|torch\.load"
)
# What a training and an evaluation start from. The command line that calls them decides nothing.
ENTRIES = (
    "saigen.config.dvc_params",
    "saigen.config.handover",
    "saigen.pipeline",
    "saigen.training.loop",
    "saigen.training.processes",
    "saigen.training.ranks",
)


def all_sources(root: Path) -> dict[str, str]:
    """The digest of each Python file below src/, by path from the root."""
    files = sorted(path for path in (root / SOURCE).rglob("*.py") if path.is_file())
    names = {str(file.relative_to(root)): file for file in files}
    # what an editor keeps in a hidden folder, or under a hidden name, nothing can import
    return {name: digest_file(file) for name, file in names.items() if "/." not in name}


def run_sources(values: Mapping[str, Any], root: Path) -> dict[str, str]:
    """What of it belongs to the code layer of a run under a config."""
    named = [*targets(values), str(value_at(values, "trainer.loop"))]
    found = imported_sources(root, [*ENTRIES, *(name.rpartition(".")[0] for name in named)])
    own = [name for name in found if not name.startswith(INSTRUMENT)]
    if not any(_LOADS.search((root / name).read_bytes()) for name in own):
        return found
    every = all_sources(root)
    return {n: d for n, d in every.items() if n in found or not n.startswith(INSTRUMENT)}


def capture(values: Mapping[str, Any], root: Path) -> Layer:
    """The code layer. The commit is a circumstance: a changed README makes no other run."""
    return Layer("code", {"files": run_sources(values, root)})


def edited(root: Path, recorded: Mapping[str, str], among: Iterable[str]) -> list[str]:
    """Which of these files are not here as they were recorded. Only recorded ones count: what a
    process imports beyond (the command line) another edit made it import.
    """
    return sorted(
        name
        for name in among
        if name in recorded
        and (not (root / name).is_file() or digest_file(root / name) != recorded.get(name))
    )


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


@cache
def _imported(text: bytes, package: str) -> tuple[str, ...]:
    return tuple(_read_imports(text, package))


def _read_imports(text: bytes, package: str) -> Iterator[str]:
    """The names of modules, and of what may be modules, that a program in a package imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # whoever imports it will say so
    if b"import_module" in text or b"__import__" in text:
        yield from _named_in_calls(tree, package)
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
        else:  # statements only: looking at every expression takes five times as long
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                inside = getattr(node, part, ())
                waiting += inside if isinstance(inside, list) else ()


def _named_in_calls(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        called = getattr(node, "func", None)
        name = getattr(called, "attr", None) or getattr(called, "id", None)
        if isinstance(node, ast.Call) and name in ("import_module", "__import__"):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            texts = [str(value.value) for value in given if isinstance(value, ast.Constant)]
            within = [package, *(text for text in texts if not text.startswith("."))]
            yield from (_absolute(text, inside) for text in texts for inside in within)


def _absolute(name: str, package: str) -> str:
    """The full name of a module that is named in a package: `..data` from there."""
    bare = name.lstrip(".")
    level = len(name) - len(bare)
    above = package.split(".")[: 1 - level or None] if level else []
    return ".".join([*above, *([bare] if bare else [])])
