"""What is installed against what was locked: missing, other, added, replaced.

Looked at before every start, so without importing anything that is installed: names and
versions are those of the `*.dist-info` folders (PEP 376), files are left to `seal`.
"""

import os
import re
import sys
import sysconfig
from pathlib import Path

from saigen.recipe.seal import changed_files, wrong_sizes
from saigen.refusal import Refusal

_LOCKED = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)
_TOOLS = frozenset({"pip", "saigen"})  # they may be there; neither enters a number


def hold_to_lock(root: Path) -> None:
    """Refuse an environment that is not what the project's lock says.

    `root` is the project's folder. Raises Refusal with every difference and the mend.
    """
    found = differences(root)
    if found:
        raise Refusal(
            "the environment is not the one that is locked",
            where=sys.prefix,
            expected=f"exactly what {_lock_file(root).relative_to(root)} lists",
            got="; ".join(found),
            fix=_mend(),
        )


def differences(root: Path) -> list[str]:
    """One line for each difference between the lock and what this interpreter would import.

    Empty when there is none. Raises Refusal when the project has no lock.
    """
    packages = Path(sysconfig.get_path("purelib"))
    lock = _lock_file(root)
    if not lock.is_file():
        raise Refusal(
            "there is no lock to compare the environment with",
            where=str(lock),
            expected="the hash-locked list of distributions",
            got="no such file",
            fix="git checkout docker, or make lock",
        )
    found = version_differences(locked_versions(lock), installed_versions(packages))
    if os.environ.get("SAIGEN_ENVIRONMENT") == "container":
        return found + wrong_sizes(packages)
    return found + changed_files(packages, Path(sys.prefix))


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


def _lock_file(root: Path) -> Path:
    return root / f"docker/lock-{_variant()}.txt"


def _variant() -> str:
    """The lock that this environment was made from; of a foreign one, what torch it has."""
    try:
        return (Path(sys.prefix) / ".base").read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        versions = installed_versions(Path(sysconfig.get_path("purelib")))
        return "cuda" if versions.get("torch") and "+cpu" not in versions["torch"][0] else "cpu"


def _mend() -> str:
    if os.environ.get("SAIGEN_ENVIRONMENT") == "container":
        return "make image"
    return "rm -rf .venv && make .venv (a lock that should change: make lock)"


if __name__ == "__main__":
    # docker/install.sh calls this, so that the first start does not pay for the first look
    try:
        hold_to_lock(Path.cwd())
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(2)
