"""What is installed against what was locked: missing, other, added, replaced.

Looked at before every start, so without importing anything that is installed: names and
versions are those of the `*.dist-info` folders (PEP 376), files are left to `seal`.
"""

import functools
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saigen.environment.installed_files import Replaced, changed_files
from saigen.errors import Refusal
from saigen.project_code import line_of

_LOCKED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)
_TOOLS = frozenset({"pip", "saigen"})  # they may be there; neither enters a number
_DRIFTED = "the environment is not the one that is locked"
_SHOWN = 12  # differences in a refusal; the record of a run under `warn` has them all


@dataclass(frozen=True)
class Drift:
    """How the environment differs from the lock; nothing of it when it does not."""

    distributions: tuple[str, ...] = ()  # one line each: missing, other, added
    files: tuple[Replaced, ...] = ()

    @property
    def lines(self) -> list[str]:
        """All of it, for a person and the metadata of a record."""
        return [*self.distributions, *map(str, self.files)]

    @property
    def replaced(self) -> dict[str, str]:
        """What versions do not tell and can move bits: path of a file -> what is there now."""
        return {file.path: file.sha256 or "gone" for file in self.files}

    def words(self) -> str:
        """The first differences, and how many more there are."""
        more = len(self.lines) - _SHOWN
        return "; ".join(self.lines[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def hold_to_lock(root: Path, policy: Literal["refuse", "warn"]) -> Drift:
    """Compare what is installed with the lock of the project in `root`, once a process.

    Under `warn` the differences are said on standard error and returned; under `refuse` there are
    none, or Refusal is raised with their list and the mend.
    """
    return _held(root.resolve(), policy)


@functools.cache
def _held(root: Path, policy: str) -> Drift:
    found = drift(root)
    if found.lines and policy == "refuse":
        raise Refusal(
            _DRIFTED,
            where=sys.prefix,
            expected=f"exactly what {lock_file(root).relative_to(root)} lists",
            got=found.words(),
            fix=f"{mend()}; reproducibility.environment_drift=warn takes and records it",
        )
    if found.lines and os.environ.get("RANK", "0") == "0":
        text = f"{_DRIFTED}, which is recorded: {found.words()}; to mend it: {mend()}"
        print(f"warning: {text}", file=sys.stderr)
    return found


def unimportable(root: Path, error: ImportError) -> Refusal | None:
    """What to say of an import that failed; None where it was of a module of the instrument's or of
    Python's, which is a fault of the instrument.

    Of a library's, the environment may be the cause; a module of the project's is its own matter.
    """
    top, where = (error.name or "").partition(".")[0], line_of(error)
    own = {path.stem for path in (root / "src").glob("*")} - {"saigen"}
    if top in own or (where and top in sys.stdlib_module_names):
        return Refusal(
            "a module of the project cannot be imported",
            where=where or top,
            expected="names that are there",
            got=str(error),
            fix="mend the import; SAIGEN_TRACEBACK=1 shows the whole way to it",
        )
    if top == "saigen" or top in sys.stdlib_module_names:
        return None
    found = drift(root)
    lock = lock_file(root).relative_to(root)
    return Refusal(
        _DRIFTED if found.lines else "a library cannot be imported",
        where=where or sys.prefix,
        expected=f"exactly what {lock} lists" if found.lines else f"a library that {lock} lists",
        got="; ".join(filter(None, [str(error), found.words()])),
        fix=mend()
        if found.lines
        else "name it among the dependencies in pyproject.toml, then "
        "`make lock .venv`; or leave the import out",
    )


def drift(root: Path) -> Drift:
    """The differences between the lock and what this interpreter would import (some 30 ms)."""
    packages, lock = Path(sysconfig.get_path("purelib")), lock_file(root)
    if not lock.is_file():
        return Drift((f"there is no {lock.relative_to(root)} to compare it with (make lock)",))
    versions = version_differences(locked_versions(lock), installed_versions(packages))
    seals = Path.home() if _in_image() else None
    files = changed_files(packages, Path(sys.prefix), seals)
    return Drift(tuple(versions), tuple(files))


def locked_versions(lock: Path) -> dict[str, str]:
    """Name and version of everything in a lock."""
    return dict(_LOCKED.findall(lock.read_text(encoding="utf-8")))


def installed_versions(packages: Path) -> dict[str, list[str]]:
    """Versions of each distribution in a site-packages folder; more than one is a fault."""
    found: dict[str, list[str]] = {}
    for entry in os.scandir(packages):
        name, dash, version = entry.name.removesuffix(".dist-info").partition("-")
        if dash and entry.name.endswith(".dist-info"):
            normal = re.sub(r"[-_.]+", "-", name).lower()  # PEP 503
            found.setdefault(normal, []).append(version)
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def version_differences(locked: dict[str, str], installed: dict[str, list[str]]) -> list[str]:
    """One line for each distribution that is missing, of another version, or not in the lock."""
    lines = []
    for name, version in sorted(locked.items()):
        if name not in installed:
            lines.append(f"{name} {version} is not installed")
        elif installed[name] != [version]:
            lines.append(f"{name} is {' and '.join(installed[name])} instead of {version}")
    added = sorted(set(installed) - set(locked) - _TOOLS)
    return lines + [f"{name} {installed[name][0]} is not in the lock" for name in added]


def lock_file(root: Path) -> Path:
    """The lock that this environment was made from; of a foreign one, what torch it has."""
    try:
        variant = (Path(sys.prefix) / ".base").read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        versions = installed_versions(Path(sysconfig.get_path("purelib"))).get("torch", ["+cpu"])
        variant = "cpu" if "+cpu" in versions[0] else "cuda"
    return root / f"docker/lock-{variant}.txt"


def mend() -> str:
    """The command that makes the environment what the lock says."""
    if _in_image():
        return "make image"
    return "rm -rf .venv && make .venv (a lock that should change: make lock)"


def _in_image() -> bool:
    return os.environ.get("SAIGEN_ENVIRONMENT") == "container"


if __name__ == "__main__":
    # docker/install.sh calls this, so that the first start does not pay for the first look
    try:
        hold_to_lock(Path.cwd(), "refuse")
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
