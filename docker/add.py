"""Add packages to the project: `make add P='polars torchmetrics>=1.5'`.

Writes them into pyproject.toml's one list, makes both locks, installs, imports, and says what
moved. What fails leaves the list, the locks and .venv as they were.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST, LOCKS = "pyproject.toml", ("docker/lock-cpu.txt", "docker/lock-cuda.txt")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===?|~=|!=|[<>]=?)[A-Za-z0-9.*+!_-]+"
_REQUIREMENT = re.compile(rf"({_NAME})(?:\[{_NAME}(?:,{_NAME})*\])?(?:{_VERSION}(?:,{_VERSION})*)?")
_IMPORT = """
import importlib, importlib.metadata as metadata, re, sys
plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
for module, names in sorted(metadata.packages_distributions().items()):
    wanted = {plain(name) for name in names} & set(sys.argv[1:])
    if wanted and module.isidentifier() and module[0] != "_":
        importlib.import_module(module)
        print(f"imports  {module}")
"""


def main(wanted: Sequence[str]) -> int:
    """Add all of them, or none; the exit code: 0, or 2 where it was refused."""
    before = {name: (ROOT / name).read_text(encoding="utf-8") for name in (LIST, *LOCKS)}
    names = []
    for text in wanted:
        if not (match := _REQUIREMENT.fullmatch(text)):
            return _refuse("this names no package", "P", "P='NAME NAME>=1.2 NAME[extra]'", text,
                           "make add P=polars")  # fmt: skip
        names.append(_plain(match[1]))
    if not names:
        return _refuse("no package is named", "P", "P='NAME ...'", "nothing", "make add P=polars")
    try:
        listed = with_requirements(before[LIST], wanted)
        (ROOT / LIST).write_text(listed, encoding="utf-8")
        if listed == before[LIST]:
            print(f"in the list already: {' '.join(wanted)}")
        _run("the packages do not resolve together", ["docker/lock.sh"])
        _run("the packages could not be installed", ["docker/install.sh"])
        python = [str(ROOT / ".venv/bin/python"), "-I", "-c", _IMPORT, *names]
        print(_run("a package was installed and cannot be imported", python), end="")
    except (subprocess.CalledProcessError, KeyboardInterrupt) as error:
        for name, text in before.items():
            (ROOT / name).write_text(text, encoding="utf-8")
        subprocess.run(["docker/install.sh"], cwd=ROOT, check=False)
        if isinstance(error, KeyboardInterrupt):
            return 130
        said = [line.strip() for line in str(error.output).splitlines() if line.strip()]
        return _refuse(
            str(error.cmd),
            LIST,
            "one set of versions for both locks, of which the CPU lock's is installed and imported",
            "\n            ".join(said[-6:]),
            "reach what could not be reached (a wheel may lie in a folder of PIP_FIND_LINKS), or "
            "name another version (P='NAME==1.2'); list, locks and .venv are as they were",
        )
    for lock in LOCKS:
        moved = difference(before[lock], (ROOT / lock).read_text(encoding="utf-8"))
        print(f"{lock}: " + (f"{len(moved)} moved" if moved else "as it was"))
        print("".join(f"  {line}\n" for line in moved), end="")
    print("The environment is another one: the next run has another recipe. Commit list and locks.")
    return 0


def with_requirements(text: str, wanted: Sequence[str]) -> str:
    """The text of pyproject.toml with requirements in its sorted list; another version of what is
    there takes its place.
    """
    requirements = {_plain(r): r for r in tomllib.loads(text)["project"]["dependencies"]}
    for requirement in wanted:
        if _plain(requirement) not in requirements or requirement != _bare(requirement):
            requirements[_plain(requirement)] = requirement
    lines = "".join(f'    "{requirements[name]}",\n' for name in sorted(requirements))
    return re.sub(r"^dependencies = \[\n.*?^\]\n", f"dependencies = [\n{lines}]\n", text,
                  count=1, flags=re.MULTILINE | re.DOTALL)  # fmt: skip


def difference(before: str, after: str) -> list[str]:
    """What moved from one lock to another, a line a distribution."""
    old, new = (dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
                for text in (before, after))  # fmt: skip
    return [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _bare(requirement: str) -> str:
    match = re.match(_NAME, requirement)
    return match[0] if match else ""


def _plain(requirement: str) -> str:
    """A distribution's name as locks write it."""
    return re.sub(r"[-_.]+", "-", _bare(requirement)).lower()


def _run(what: str, command: list[str]) -> str:
    """What a command printed. Raises CalledProcessError, whose `cmd` says what failed."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)  # fmt: skip
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, what, done.stdout)
    return done.stdout


def _refuse(what: str, where: str, expected: str, got: str, fix: str) -> int:
    parts = {"where": where, "expected": expected, "got": got, "fix": fix}
    lines = [f"refused: {what}", *(f"  {f'{name}:':9} {text}" for name, text in parts.items())]
    print("\n".join(lines), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(os.environ.get("P", "").split()))
