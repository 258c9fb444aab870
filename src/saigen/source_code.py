"""The code layer: the source that runs, byte for byte."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from saigen.digest import digest_file
from saigen.recipe import Layer

SOURCE = Path("src")


def capture(root: Path) -> Layer:
    """The digest of every Python file below src/. The commit is a circumstance: a commit that
    changes a README makes no other run.
    """
    files = sorted(path for path in (root / SOURCE).rglob("*.py") if path.is_file())
    return Layer("code", {"files": {str(f.relative_to(root)): digest_file(f) for f in files}})


def edited(root: Path, recorded: Mapping[str, str], among: Iterable[str]) -> list[str]:
    """Which of these files of the source are not here as they were recorded."""
    return sorted(
        name
        for name in among
        if not (root / name).is_file() or digest_file(root / name) != recorded.get(name)
    )
