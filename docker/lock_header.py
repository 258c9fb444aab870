"""Say in a lock what it was made from, and see whether that still holds.

    python docker/lock_header.py check
    python docker/lock_header.py write VARIANT DRAFT LOCK

Needs no network: the header holds the digest of pyproject.toml's dependency tables and of
the lock's own lines, so that an edit of either side without `make lock` is seen.
"""

import hashlib
import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("cpu", "cuda")
_HEADER = """\
# The {variant} lock: every distribution with its SHA-256, for Python 3.11 on Linux x86-64.
# Made from pyproject.toml by `make lock`; not for editing by hand.
# dependencies-sha256: {dependencies}
# lines-sha256: {lines}
"""


def dependencies_digest(pyproject: Path) -> str:
    """SHA-256 of the tables that decide a lock: Python, dependencies, groups."""
    document = tomllib.loads(pyproject.read_text())
    project = document["project"]
    tables = [
        project["requires-python"],
        sorted(project["dependencies"]),
        {name: sorted(group) for name, group in document["dependency-groups"].items()},
    ]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def write(variant: str, draft: Path, lock: Path) -> None:
    """Put the header over a fresh resolution; refuse one that gives away where it was made."""
    lines = _plain_name(_body(draft.read_text()))
    before = _pins(lock.read_text()) if lock.is_file() else {}
    for line in lines.splitlines():
        if re.search(r"file:|https?:|^-|(?<![\w.-])/", line):
            sys.exit(f"refused: the {variant} lock would name a place of this machine: {line}")
    header = _HEADER.format(
        variant=variant,
        dependencies=dependencies_digest(ROOT / "pyproject.toml"),
        lines=hashlib.sha256(lines.encode()).hexdigest(),
    )
    partial = lock.with_suffix(".partial")
    partial.write_text(header + lines)
    partial.replace(lock)
    print(f"{lock}: {_moved(before, _pins(lines))}")


def _plain_name(lines: str) -> str:
    """The lines without the project's name: what asks for a package is the list, whoever owns it,
    and a project that is renamed keeps its locks.
    """
    return re.sub(r"(?m)^( +#.* )[\w.-]+( \(pyproject\.toml)", r"\1saigen\2", lines)


def _pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", text))


def _moved(before: dict[str, str], now: dict[str, str]) -> str:
    """How many packages a lock has, and which are not as they were."""
    names = sorted(name for name in before | now if before.get(name) != now.get(name))
    said = [f"{name} {before.get(name, '(new)')} -> {now.get(name, '(gone)')}" for name in names]
    return f"{len(now)} packages, " + (", ".join(said) or "as before")


def stale(pyproject: Path, lock: Path) -> str:
    """Why a lock no longer stands for pyproject.toml; empty when it does."""
    text = lock.read_text()
    found = dict(re.findall(r"^# ([a-z]+)-sha256: ([0-9a-f]{64})$", text, re.M))
    if found.get("dependencies") != dependencies_digest(pyproject):
        return "pyproject.toml's dependencies changed since the lock was made"
    if found.get("lines") != hashlib.sha256(_body(text).encode()).hexdigest():
        return "the lock's lines were changed by hand"
    return ""


def check() -> int:
    """Print what is stale; 0 when nothing is, 1 otherwise."""
    status = 0
    for variant in VARIANTS:
        lock = ROOT / f"docker/lock-{variant}.txt"
        if reason := stale(ROOT / "pyproject.toml", lock):
            print(
                f"refused: a lock is stale\n  where:    {lock.relative_to(ROOT)}\n"
                "  expected: the lock that `make lock` makes from pyproject.toml\n"
                f"  got:      {reason}\n  fix:      make lock"
            )
            status = 1
    return status


def _body(text: str) -> str:
    """The lines below the header."""
    return re.sub(r"\A(#[^\n]*\n)*", "", text)


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(check())
    write(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
