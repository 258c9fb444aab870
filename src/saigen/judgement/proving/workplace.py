"""A copy of the project to train in, so that the project itself is left untouched."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saigen.recipe.composer.compose import Composition, compose
from saigen.training.settings import environment_of

# Made from the rest, or of no use to a training process.
_LEFT_OUT = {".git", ".venv", ".dvc", "runs", "prepared", "model", "results", ".saigen"}
_COMPOSING = threading.Lock()
_COPIED_BYTES = 1 << 30  # a larger data folder is linked instead


class Workplace:
    """A copy of a project below some folder; verbs run in processes of their own."""

    def __init__(self, root: Path, target: Path, data: Sequence[str] = ("data",)) -> None:
        self.root = target
        self.linked = [name for name in data if _size(root / name) > _COPIED_BYTES]
        top = str(root)

        def left_out(folder: str, names: list[str]) -> set[str]:
            here = _LEFT_OUT | set(self.linked) if folder == top else {"__pycache__"}
            return {name for name in names if name in here or name.endswith("_cache")}

        shutil.copytree(top, target, symlinks=True, ignore=left_out)
        for name in self.linked:
            (target / name).symlink_to((root / name).resolve())

    def start(
        self,
        composition: Composition,
        plan: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path,
    ) -> subprocess.Popen[bytes]:
        """Start `perturbed.py` here; what it prints goes to `log`.

        The environment is the one that the config needs, so that the process does not have to
        start again, and then the perturbation's.
        """
        needed = environment_of(composition.config)
        dropped = {name for name, value in needed.items() if value is None}
        given = {name: value for name, value in needed.items() if value is not None}
        kept = {n: v for n, v in os.environ.items() if n not in dropped and n[:4] != "DVC_"}
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "saigen.judgement.proving.perturbed", json.dumps(plan)],
                cwd=self.root,
                env=kept
                | given
                | {"PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
                | dict(environment or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def run_folder(self) -> Path | None:
        """The run that was made here; None if none was completed."""
        from saigen.records.runs import RUNS, all_runs

        return next(iter(reversed(all_runs(self.root / RUNS))), None)

    def reverse_times(self) -> None:
        """Make the newest file below data/ and conf/ the oldest, and so on."""
        files = [p for n in ("data", "conf") for p in sorted((self.root / n).rglob("*"))
                 if p.is_file() and not p.is_symlink()]  # fmt: skip
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for number, path in enumerate(files):
            moment = 1_000_000_000 + 86_400 * number
            os.utime(path, (moment, moment))


def composed(root: Path, overrides: Sequence[str]) -> Composition:
    """The project's config under overrides. Hydra composes one config at a time."""
    with _COMPOSING:
        return compose(tuple(overrides), root / "conf")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
