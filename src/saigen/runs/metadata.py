"""Metadata: when, where, how long, from which commit. Recorded, and in no digest."""

import datetime
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saigen.config.compose import Composition
from saigen.config.keys import value_at
from saigen.config.schema import METADATA
from saigen.environment import machine as environment
from saigen.runs import uncommitted
from saigen.source_code import SOURCE

_DVC = ("DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")


def now() -> str:
    """UTC, to the microsecond, so that runs sort by their start."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def capture(root: Path, composition: Composition, drift: list[str]) -> dict[str, Any]:
    """What surrounds the start of a run, read before step 0.

    `drift`: how what is installed differs from the lock, a line each.
    """
    return {
        "started_at": now(),
        "folder": str(root.resolve()),
        "arguments": sys.argv[1:],
        "overrides": list(composition.overrides),
        "process": os.getpid(),
        "machine": environment.machine(),
        "git": uncommitted.state(root),
        "dvc": {name: os.environ[name] for name in _DVC if name in os.environ},
        "config": {key: value_at(composition.values, key) for key in METADATA},
        "drift": drift,
        "continued": [],
    }


def imported(root: Path, sources: Iterable[str]) -> dict[str, list[str]]:
    """What this process imported: files of the source, and the packages of others by name.
    `sources`: what the preparation imported, maybe in another process.

    `diff` tells by it which differences of the code or of packages a run could have felt.
    """
    files = {*sources, *_files(root, dict(sys.modules))}
    own = {Path(name).parts[1].removesuffix(".py") for name in files}
    return {"files": sorted(files), "packages": packages(own), "beyond": []}


def packages(own: Collection[str]) -> list[str]:
    """The packages that this process imported, by name, without Python's and one's own."""
    names = {name.partition(".")[0] for name in list(sys.modules)} - sys.stdlib_module_names
    return sorted(names.difference(own, {"__main__", "__mp_main__"}))


def note_beyond(record: dict[str, Any], root: Path, before: Collection[str]) -> None:
    """Note what was imported below src/ since `before`, a set of modules, and is not in the code
    layer, because its name was made while the program ran. `diff` compares it all the same.
    """
    layer, found = record["recipe"]["layers"]["code"]["files"], record["metadata"]["imported"]
    later = {module: sys.modules[module] for module in sys.modules.keys() - before}
    found["beyond"] = sorted(
        {*found["beyond"], *(n for n in _files(root, later) if n not in layer)}
    )


def _files(root: Path, modules: Mapping[str, Any]) -> Iterator[str]:
    """The files below src/ of the modules that have one."""
    top = root.resolve()
    for module in modules.values():
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(top / SOURCE):
            yield str(Path(file).relative_to(top))
