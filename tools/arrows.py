"""Lint: the rooms of src/saigen import downward only, and never in a circle.

    python tools/arrows.py [FOLDER]

A room may import what stands below it and itself. `analysis/child.py` is the process in which
`verify` trains, so it alone may call the command line.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

# from the top down; what stands in no line is the ground, which imports the ground alone
ROOMS = (
    ("__main__",),
    ("cli",),
    ("starting",),
    ("analysis",),
    ("command_line", "sweep", "publishing", "pipeline", "watching"),
    ("runs",),
    ("training",),
    ("data",),
    ("observing",),
    ("environment",),
    ("source_code",),
    ("recipe",),
    ("streams",),
    ("config",),
)
EXCEPTIONS = {("analysis.child", "cli")}
HEIGHT = {room: len(ROOMS) - number for number, rooms in enumerate(ROOMS) for room in rooms}


def imports(source: Path) -> Iterator[tuple[str, str]]:
    """Every import of one module of the package by another, as (importer, imported)."""
    for file in sorted(source.rglob("*.py")):
        module = ".".join(file.relative_to(source).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                if name.startswith("saigen."):
                    yield module, _module(source, name.removeprefix("saigen."))


def _module(source: Path, name: str) -> str:
    """The module that a dotted name stands in."""
    while name and not (source / f"{name.replace('.', '/')}.py").exists():
        if (source / name.replace(".", "/")).is_dir():
            break
        name = name.rpartition(".")[0]
    return name


def upward(found: list[tuple[str, str]]) -> list[str]:
    """What is said of each import that goes up."""
    said = []
    for importer, imported in found:
        here, there = importer.partition(".")[0], imported.partition(".")[0]
        if here in ("__init__", there) or (importer, imported) in EXCEPTIONS:
            continue
        if HEIGHT.get(there, 0) >= HEIGHT.get(here, 0) and there in HEIGHT:
            said.append(f"{importer} imports {imported}, which stands above it or beside it")
    return said


def circles(found: list[tuple[str, str]]) -> list[str]:
    """What is said of each circle of modules."""
    after: dict[str, set[str]] = {}
    for importer, imported in found:
        after.setdefault(importer, set()).add(imported)
    said: list[str] = []
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> None:
        if module in way:
            said.append(" -> ".join([*way[way.index(module) :], module]))
        elif module not in done:
            for imported in sorted(after.get(module, ())):
                walk(imported, [*way, module])
            done.add(module)

    for module in sorted(after):
        walk(module, [])
    return said


def main(source: Path) -> int:
    """Print what is wrong; the exit code."""
    found = [pair for pair in imports(source) if pair not in EXCEPTIONS]
    found = [(importer, imported) for importer, imported in found if importer != imported]
    wrong = upward(found) + circles(found)
    for line in wrong:
        print(f"{source}: {line}\n    fix: move what both need into the lower one, or below both")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if sys.argv[1:] else "src/saigen")))
