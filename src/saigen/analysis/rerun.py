"""Make a run again from its record, in a worktree of its own, and compare."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from saigen import git_dvc
from saigen.analysis import observed_differences, remotes, trust, watched
from saigen.analysis.claims import Verification, refuse_unknown
from saigen.analysis.diff import Diff, diff
from saigen.analysis.installing import interpreter
from saigen.analysis.run import Run
from saigen.analysis.sandbox import lay_inputs
from saigen.analysis.worktree import bring_data, commit_of, compute_layout, lacking, worktree
from saigen.config import handover
from saigen.documents import copy_regular
from saigen.errors import Failure, Refusal
from saigen.files import beside, locked, move, refuse_unless_replaceable, replacing, write_whole
from saigen.outputs import refuse_owned
from saigen.runs.folders import LOCK, RESULTS, RUNS, all_runs, note_start, numbered
from saigen.runs.ledger import complete
from saigen.runs.metadata import now
from saigen.runs.model_folder import FOLDER as MODEL
from saigen.runs.model_folder import WEIGHTS, open_model
from saigen.runs.record import NAME, is_watched, read_record
from saigen.runs.store import FOLDER as KEPT
from saigen.runs.store import kept
from saigen.runs.uncommitted import UNCOMMITTED

Say = Callable[[str], None]


def rerun(
    run: Run, root: Path, say: Say, agree: Callable[[], None], *, install: bool = True
) -> tuple[Diff, str]:
    """Make a run again; returns the diff and the name under which the new run was entered here.

    `agree` raises Refusal unless the code that the record brings may run here. Everything that may
    be missing is asked for before anything is trained. Raises Refusal if the run cannot be made
    again, Failure if its training ends badly.
    """
    if is_watched(run.record):
        with watched.made_again(run, root, say, agree) as made:
            return diff(run, made), _enter(made.folder, root)
    with tempfile.TemporaryDirectory(prefix="saigen-source-") as scratch:
        source = _with_uncommitted(run, root, Path(scratch))
        commit = commit_of(source)
        with worktree(root, commit) as project:
            agree()
            compute_layout(source, project)
            without = "".join(f"; without {n} ({why})" for n, why in lacking(source).items())
            say(f"source: commit {commit[:12]}, as recorded{without}")
            bring_data(run, project)
            lay_inputs(run, project)
            say("data: as recorded")
            python = interpreter(run, project, say, install=install)
            say("training")
            for verb in ("prepare", "train"):
                _saigen(python, project, verb, run, any_environment=not install)
            folder = all_runs(project / RUNS)[-1]
            made = Run(folder=folder, record=read_record(folder), root=project)
            return diff(run, made), _enter(folder, root)


def verify_watched(
    run: Run, root: Path, say: Say, *, only: Sequence[str], trusted: bool
) -> Verification:
    """Which claims a watched run makes (or those of `only`), and whether they hold. Raises Refusal
    on another run.
    """
    refuse_unknown(watched.CLAIMS, only)
    if not is_watched(run.record):
        raise Refusal(
            "`saigen verify RUN` is for runs of a loop that was watched",
            where=str(run.folder),
            expected="a run that saigen.watch made",
            got="a run of this template",
            fix="`saigen verify`, with the overrides that it was made with: "
            + " ".join(["saigen verify", *run.record["metadata"]["overrides"]]),
        )
    started = now()
    agreed = partial(trust.agree, run, f"saigen verify {run.name}", trusted=trusted)
    with watched.made_again(run, root, say, agreed) as made:
        found = watched.verification(run, diff(run, made), started)
    claims = [claim for claim in found.claims if not only or claim.name in only]
    return found.model_copy(update={"claims": claims})


def restore(run: Run, root: Path, target: Path, say: Say) -> None:
    """Put a run's model back, without training: from its folder, or from the DVC remote.

    Raises Refusal, before anything is brought, if what stands at the target is not to be replaced.
    """
    if target.resolve() != (root / MODEL).resolve() or target.is_symlink():
        refuse_owned(target, root)
    refuse_unless_replaceable(target)
    target = target.resolve()
    source, wanted = run.folder / "model", (run.outcome["weights"] or {}).get("sha256")
    if source.is_dir() and _replaced(source, target, wanted) == wanted:
        return
    commit, got = _publication(run.outcome["digest"], root), "neither"
    if commit is not None:
        say(f"model: from the DVC remote, as of commit {commit[:12]}")
        with worktree(root, commit) as project:
            remotes.pull(project, "model", "the model of the run cannot be had any more")
            found = _replaced(project / "model", target, wanted)
            if found == wanted:
                return
            got = f"commit {commit}, whose model has the weights {found}"
    raise Refusal(
        "the model of the run is not here, and no commit published it",
        where=str(run.folder),
        expected=f"the folder model/, or a commit whose {RESULTS}/{NAME} has its outcome",
        got=got,
        fix=f"`saigen rerun {run.name}` makes it again",
    )


def _replaced(source: Path, target: Path, wanted: str | None) -> str:
    """Put a model folder, once all of it was checked, in the target's place if its weights have
    the digest that is wanted; returns the digest that they have.
    """
    model = open_model(source)
    found = str(model.manifest["files"][WEIGHTS])
    if found == wanted:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as new:
            model.copy_into(new)
    return found


def _with_uncommitted(run: Run, root: Path, scratch: Path) -> Run:
    """The run with what git did not have of its source: of a published run, from the remote."""
    state = run.record["metadata"].get("git") or {}
    recorded = state.get("patch_sha256") or state.get("untracked")
    here = (run.folder / UNCOMMITTED).is_dir() or not recorded
    commit = None if here else _publication(run.record["metadata"]["started_at"], root)
    if commit is None:
        return run
    with worktree(root, commit) as project:
        what = "what was not committed of the run's source cannot be had any more"
        remotes.pull(project, f"{RESULTS}/{UNCOMMITTED}", what)
        copy_regular(project / RESULTS / UNCOMMITTED, scratch / UNCOMMITTED)
    return replace(run, folder=scratch)


def _saigen(python: str, project: Path, verb: str, run: Run, *, any_environment: bool) -> None:
    """Run a verb under the config of a run, with `any_environment` also where it is not locked."""
    values = run.full_config()
    if any_environment:
        values["reproducibility"]["environment_drift"] = "warn"
    environment = {name: value for name, value in os.environ.items() if name[:4] != "DVC_"}
    with handover.given(values, run.record["metadata"]["overrides"]) as (variables, passed):
        done = subprocess.run(
            [python, "-m", "saigen", verb], cwd=project, check=False, capture_output=True,
            stdin=subprocess.DEVNULL, pass_fds=passed,
            env=environment | observed_differences.variables(run) | variables |
            {"PYTHONPATH": str(project / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
    if done.returncode:
        raise Failure(
            "the run could not be made again",
            where=f"saigen {verb}",
            expected="the training that the record tells of",
            got=(done.stderr or done.stdout).decode(errors="replace").strip()[-600:],
            fix="what it says above is of the run's own code, at the run's own commit",
        )


def _enter(folder: Path, root: Path) -> str:
    """Take the new run among the runs here, under the next free name; returns the name."""
    runs, record = root / RUNS, read_record(folder)
    runs.mkdir(exist_ok=True)
    for copy in sorted((folder.parent / KEPT).glob("[!.]*")):
        if kept(runs, copy.name) is None:
            write_whole(runs / KEPT / copy.name, copy.read_bytes())
    names = numbered(record["recipe"]["digest"], runs)
    with beside(runs / folder.name) as new:
        copy_regular(folder, new, skip=lambda name: name in (NAME, LOCK))
        with locked(new / LOCK):  # so that nobody claims it before it is entered
            target = next(path for path in names if move(new, path))
            note_start(target)
            complete(target, record | {"run": target.name})
    return target.name


def _publication(part: str, root: Path) -> str | None:
    """The newest commit whose published record has this string among its values."""
    path = f"{RESULTS}/{NAME}"
    for commit in git_dvc.commits_of(root, path):
        if f'"{part}"'.encode() in (git_dvc.committed(root, commit, path) or b""):
            return commit
    return None
