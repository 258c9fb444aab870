"""Make a run again from its record, in a worktree of its own, and compare."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from saigen.judgement.diff import Diff, diff
from saigen.judgement.run import Run
from saigen.judgement.worktree import bring_data, commit_of, dvc, lay_out, worktree
from saigen.recipe.environment import LOCKS, installed_packages
from saigen.records import kept
from saigen.records.completion import complete
from saigen.records.model_folder import open_model
from saigen.records.record import NAME, read_record
from saigen.records.runs import RUNS, all_runs
from saigen.refusal import Failure, Refusal

Say = Callable[[str], None]


def rerun(run: Run, root: Path, say: Say, *, install: bool = True) -> tuple[Diff, str]:
    """Make a run again; returns the diff and the name under which the new run was entered here.

    Everything that may be missing is asked for before anything is trained. Raises Refusal if the
    run cannot be made again, Failure if its training ends badly.
    """
    commit = commit_of(run)
    with worktree(root, commit) as project:
        lay_out(run, project)
        say(f"source: commit {commit[:12]}, as recorded")
        bring_data(run, project)
        say("data: as recorded")
        interpreter = _interpreter(run, project, say, install=install)
        say("training")
        for verb in (["prepare", "--stage"], ["train", "--stage"], ["evaluate", "last"]):
            _saigen(interpreter, project, verb)
        folder = all_runs(project / RUNS)[-1]
        made = Run(folder=folder, record=read_record(folder), root=project)
        return diff(run, made), _enter(folder, root)


def restore(run: Run, root: Path, target: Path, say: Say) -> None:
    """Put a run's model back, without training: from its folder, or from the DVC remote."""
    source = run.folder / "model"
    if source.is_dir():
        open_model(source)
        _replace(source, target)
        return
    commit = _published(run, root)
    say(f"model: from the DVC remote, as of commit {commit[:12]}")
    with worktree(root, commit) as project:
        pulled = dvc(project, "pull", "-q", "model")
        if pulled.returncode:
            raise Refusal(
                "the model of the run cannot be had any more",
                where=f"dvc.lock of commit {commit}",
                expected="the output `model` in the cache or in a remote",
                got=pulled.stderr.decode().strip()[-400:],
                fix=f"`saigen rerun {run.name}` makes it again, or `dvc push` where it still is",
            )
        found = open_model(project / "model").manifest["files"]["weights.safetensors"]
        if found != run.outcome["weights"]["sha256"]:
            raise Refusal(
                "the model of that commit is not the run's",
                where=f"dvc.lock of commit {commit}",
                expected=f"weights with sha256 {run.outcome['weights']['sha256']}",
                got=found,
                fix=f"`saigen rerun {run.name}` makes it again",
            )
        _replace(project / "model", target)


def _interpreter(run: Run, project: Path, say: Say, *, install: bool) -> str:
    """The Python to train with: this one if its packages are the run's, else one made from the
    run's own lock.
    """
    recorded = run.layer("environment")["packages"]
    if recorded == installed_packages():
        say("environment: as recorded")
        return sys.executable
    here = installed_packages()
    other = [n for n in sorted(recorded.keys() | here.keys()) if recorded.get(n) != here.get(n)]
    told = f"{len(other)} packages differ from the record ({', '.join(other[:5])})"
    locks = run.layer("environment")["lock"]
    script = project / "docker" / "install.sh"
    if not (install and locks and script.is_file() and (project / LOCKS["cpu"]).is_file()):
        say(f"environment: {told}; training in this one all the same")
        return sys.executable
    say(f"environment: {told}; making the one of the run's lock")
    made = subprocess.run(["bash", str(script)], cwd=project, check=False, capture_output=True)
    python = project / ".venv" / "bin" / "python"
    if made.returncode or not python.is_file():
        raise Refusal(
            "the environment of the run cannot be made any more",
            where=str(LOCKS["cpu"]),
            expected="the packages of the run's lock",
            got=made.stderr.decode(errors="replace").strip()[-400:],
            fix="`saigen rerun --here` trains in the environment at hand",
        )
    return str(python)


def _saigen(interpreter: str, project: Path, verb: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name[:4] != "DVC_"}
    done = subprocess.run(
        [interpreter, "-m", "saigen", *verb],
        cwd=project, check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise Failure(
            "the run could not be made again",
            where=f"saigen {' '.join(verb)}",
            expected="the training that the record tells of",
            got=(done.stderr or done.stdout).decode(errors="replace").strip()[-600:],
            fix="what it says above is of the run's own code, at the run's own commit",
        )


def _enter(folder: Path, root: Path) -> str:
    """Take the new run among the runs here, under the next free name; returns the name."""
    runs = root / RUNS
    record = read_record(folder)
    stem = record["recipe"]["digest"][:12]
    number = next(n for n in range(1, 1 << 30) if not (runs / f"{stem}-{n}").exists())
    target = runs / f"{stem}-{number}"
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(NAME))
    for content in (folder.parent / kept.FOLDER).glob("*"):
        if not (runs / kept.FOLDER / content.name).exists():
            (runs / kept.FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(content, runs / kept.FOLDER / content.name)
    record["run"] = target.name
    complete(target, record)
    return target.name


def _published(run: Run, root: Path) -> str:
    """The newest commit whose results/record.json is this run's."""
    path = "results/record.json"
    log = subprocess.run(
        ["git", "log", "--all", "--format=%H", "--", path],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for commit in log.stdout.split():
        shown = subprocess.run(
            ["git", "show", f"{commit}:./{path}"], cwd=root, capture_output=True, check=False
        )
        if f'"{run.outcome["digest"]}"'.encode() in shown.stdout:
            return commit
    raise Refusal(
        "the model of the run is not here, and no commit published it",
        where=str(run.folder),
        expected=f"the folder model/, or a commit whose {path} is this record",
        got="neither",
        fix=f"`saigen rerun {run.name}` makes it again",
    )


def _replace(source: Path, target: Path) -> None:
    half = target.with_name(f".{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half)
    shutil.rmtree(target, ignore_errors=True)
    half.replace(target)
