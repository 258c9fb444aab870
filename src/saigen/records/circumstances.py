"""Circumstances: when, where, how long, from which commit. Recorded, and in no digest."""

import datetime
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from saigen.files import write_whole
from saigen.recipe import code, environment
from saigen.recipe.composer.compose import Composition
from saigen.recipe.composer.keys import value_at
from saigen.recipe.schema import CIRCUMSTANCES

UNCOMMITTED = "uncommitted"  # folder of a run: what git did not have
_KEPT_BYTES = 1 << 20  # a larger untracked file is named by its digest, and not copied
_DVC = ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")


def now() -> str:
    """UTC, to the microsecond, so that runs sort by their start."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def capture(root: Path, composition: Composition, drift: list[str]) -> dict[str, Any]:
    """What surrounds the start of a run, read before step 0.

    `drift`: how what is installed differs from the lock, a line each.
    """
    git = code.git_state(root)
    return {
        "started_at": now(),
        "folder": str(root.resolve()),
        "arguments": sys.argv[1:],
        "overrides": list(composition.overrides),
        "process": os.getpid(),
        "machine": environment.machine(),
        "git": {name: value for name, value in git.items() if name != "patch"},
        "dvc": {name: os.environ[name] for name in _DVC if name in os.environ},
        "config": {key: value_at(composition.values, key) for key in CIRCUMSTANCES},
        "drift": drift,
        "continued": [],
    }


def keep_uncommitted(root: Path, folder: Path) -> None:
    """Keep what git does not have in uncommitted/, as code.patch and untracked/, so that the run
    can be made again.
    """
    git, place = code.git_state(root), folder / UNCOMMITTED
    if git["patch"]:
        write_whole(place / "code.patch", git["patch"].encode(errors="surrogateescape"))
    for name in git["untracked"]:
        if (root / name).stat().st_size <= _KEPT_BYTES:
            copy = place / "untracked" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy)


def imported(root: Path, sources: Iterable[str]) -> dict[str, list[str]]:
    """What this process imported: files of the source, and the packages of others by name.
    `sources`: what the preparation imported, maybe in another process.

    `diff` tells by it which differences of the code or of packages a run could have felt.
    """
    source = root.resolve()
    files = set(sources)
    packages: set[str] = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(source / code.SOURCE):
            files.add(str(Path(file).relative_to(source)))
        elif name.partition(".")[0] not in sys.stdlib_module_names:
            packages.add(name.partition(".")[0])
    return {"files": sorted(files), "packages": sorted(packages - {"__main__", "__mp_main__"})}
