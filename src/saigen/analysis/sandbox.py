"""A copy of the project to train in, so that the project itself is left untouched."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saigen.analysis.run import Run
from saigen.config.compose import Composition, typed
from saigen.documents import is_inside, write_inside
from saigen.environment.torch_flags import environment_of
from saigen.errors import Refusal
from saigen.observing.declared import kept_files, observed_files
from saigen.observing.observer import is_as_observed
from saigen.runs.folders import RUNS, all_runs

# Made from the rest, or of no use to a training process.
_LEFT_OUT = {".git", ".venv", ".dvc", "runs", "prepared", "model", "results", ".saigen"}
_COPIED_BYTES = 1 << 30  # a larger data folder is linked instead
_RUNNING: set["subprocess.Popen[bytes]"] = set()  # in whichever thread


def end_all() -> None:
    """End what was started and still runs, in every thread."""
    for process in tuple(_RUNNING):
        process.kill()


class Workplace:
    """A copy of a project below some folder; verbs run in processes of their own."""

    def __init__(self, root: Path, target: Path) -> None:
        self.root = target
        top, data = str(root), root / "data"
        files = (path for path in data.rglob("*") if path.is_file())
        linked = {"data"} if sum(path.stat().st_size for path in files) > _COPIED_BYTES else set()

        def left_out(folder: str, names: list[str]) -> set[str]:
            here = _LEFT_OUT | linked if folder == top else {"__pycache__"}
            return {name for name in names if name in here or name.endswith("_cache")}

        shutil.copytree(top, target, symlinks=True, ignore=left_out)
        for path in data.iterdir() if linked else ():  # each by itself: one may be replaced
            (target / "data").mkdir(exist_ok=True)
            (target / "data" / path.name).symlink_to(path.resolve())

    def run(
        self,
        composition: Composition,
        plan: Mapping[str, Any],
        environment: Mapping[str, str],
        *,
        log: Path,
        seconds: float | None = None,
    ) -> int:
        """Run `perturbed.py` here; what it prints goes to `log`. Its exit code; -1 if it took
        longer than `seconds`.

        The environment is the one that the config needs, so that the process does not have to
        start again, and then the given one.
        """
        needed = environment_of(composition.config)
        kept = {name: value for name, value in os.environ.items()
                if name[:4] != "DVC_" and name not in needed}  # fmt: skip
        kept |= {name: value for name, value in needed.items() if value is not None}
        kept |= {"PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "saigen.analysis.child", json.dumps(plan)]
        with log.open("ab") as file, subprocess.Popen(
            command, cwd=self.root, env={**kept, **environment},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        ) as process:  # fmt: skip
            _RUNNING.add(process)
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                return -1
            finally:
                process.kill()
                _RUNNING.discard(process)

    def train(
        self,
        values: Mapping[str, Any],
        environment: Mapping[str, str],
        plan: Mapping[str, Any] | None = None,
    ) -> tuple[int, str]:
        """Prepare, train and evaluate under a whole config; the exit code, and what was printed."""
        composition = typed(dict(values), (), "the run's record")
        given = {"verbs": [["prepare"], ["train"]], "composed": composition.values}
        log = self.root.parent / f"{self.root.name}.log"
        code = self.run(composition, {**(plan or {}), **given}, environment, log=log)
        return code, " ".join(log.read_text(encoding="utf-8", errors="replace").split())

    def run_folder(self) -> Path | None:
        """The newest run that was made here; None if there is none."""
        return next(reversed(all_runs(self.root / RUNS)), None)

    def take_away(self, name: str) -> None:
        """Leave out a file or a folder."""
        path = self.root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def reverse_times(self) -> None:
        """Make the newest file below data/ and conf/ the oldest, and so on."""
        files = [p for n in ("data", "conf") for p in sorted((self.root / n).rglob("*"))
                 if p.is_file() and not p.is_symlink()]  # fmt: skip
        files.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for number, path in enumerate(files):
            moment = 1_000_000_000 + 86_400 * number
            os.utime(path, (moment, moment))


def workplace_of(run: Run, target: Path) -> Workplace:
    """A copy of the project with the source and the snapshot of a run in place of its own.

    Raises Refusal if one of these files was not kept.
    """
    workplace = Workplace(run.root.resolve(), target)
    shutil.rmtree(target / "src", ignore_errors=True)
    for name, digest in run.source.items():
        _write_kept(run, digest, target, name)
    lay_snapshot(run, target)
    lay_inputs(run, target)
    return workplace


def lay_snapshot(run: Run, project: Path) -> None:
    """Put a run's snapshot in place, with a provenance that names its digest."""
    snapshot, data = run.layer("data")["snapshot"], run.config["data"]
    _write_kept(run, snapshot["sha256"], project, data["snapshot"])
    content = {"sha256": snapshot["sha256"], "rows": snapshot["rows"]}
    write_inside(project, data["provenance"], json.dumps(content).encode())


def lay_inputs(run: Run, project: Path) -> None:
    """Put the files that a run took in besides its snapshot in place, declared or observed.

    Raises Refusal, by name, where one is not here as it was and was not kept.
    """
    for name, digest in kept_files(run.layer("data").get("inputs", {})).items():
        _write_kept(run, digest, project, name)
    for name, digest in observed_files(run.record["metadata"].get("observed") or ()).items():
        if is_as_observed({"kind": "file", "name": name, "value": digest}, project):
            continue
        if name.startswith("~") or not is_inside(name):
            raise _lost(name, "a file out of the project, which is not what it was")
        _write_kept(run, digest, project, name)


def _write_kept(run: Run, digest: str, project: Path, name: str) -> None:
    content = run.content(digest, name)
    if content is None:
        raise _lost(name, "not kept in runs/.kept, and not in git")
    write_inside(project, name, content)


def _lost(name: str, got: str) -> Refusal:
    return Refusal(
        "the run cannot be made again: not all of it was kept",
        where=name,
        expected="the content that its record names",
        got=got,
        fix="bring the file as it was, or the run's project",
    )
