"""The source of a run in a folder of its own: its commit, its patch, its untracked files, its data.

The working tree that it is called from is left untouched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen import git_dvc
from saigen.analysis import remotes
from saigen.analysis.run import Run
from saigen.digest import digest_file
from saigen.errors import Refusal
from saigen.yaml_text import outs_of


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A folder with the project as a commit has it, gone afterwards.

    Raises Refusal if the commit is not in this repository.
    """
    with git_dvc.checked_out(root, commit) as project:
        remotes.share(root, project)
        yield project


def commit_of(run: Run) -> str:
    """The commit of a run. Raises Refusal if it has none, or if what was not committed is lost."""
    state: dict[str, Any] = run.record["metadata"].get("git") or {}
    patch = digest_file(run.patch) if run.patch else None
    left_out, code = lacking(run), run.source
    lost = [
        f"{name} (not kept: {left_out[name]})" if name in left_out else name
        for name in sorted({*state.get("untracked", {}), *left_out} & code.keys())
        if run.content(code[name], name) is None
    ]
    if state.get("patch_sha256") not in (None, patch):
        lost.insert(0, f"code.patch (sha256 {state['patch_sha256'][:12]})")
    if state.get("commit") and not lost:
        return str(state["commit"])
    raise Refusal(
        "the run cannot be made again: its source was not committed, and was not kept",
        where=str(run.folder),
        expected="a commit, and every uncommitted change in the run's folder",
        got=f"missing: {', '.join(lost)}" if lost else "a run outside a git repository",
        fix="train once more from a commit, with secrets in the environment and not in the source"
        if left_out.keys() & code.keys()
        else "bring the whole run folder from where the run was made, or commit before training",
    )


def lacking(run: Run) -> dict[str, str]:
    """What was neither committed nor kept of a run, and why, by name."""
    state = run.record["metadata"].get("git") or {}
    return dict(state.get("left_out", {}))


def compute_layout(run: Run, project: Path) -> None:
    """Lay what was not committed over the commit.

    Raises Refusal unless every source file is then what the record says.
    """
    if run.patch and (errors := git_dvc.apply(project, run.patch)):
        raise _not_the_source(run, "code.patch", errors)
    state, code = run.record["metadata"]["git"], run.source
    for name, digest in {**state.get("untracked", {}), **code}.items():
        if _digest(project / name) == digest:
            continue
        if (content := run.content(digest, name)) is not None:
            _target(run, project, name).write_bytes(content)
    for name, target in state.get("links", {}).items():
        if not (project / name).is_symlink():  # a tracked one came with the patch
            _target(run, project, name).symlink_to(target)
        if not (project / name).resolve().is_relative_to(project.resolve()):
            raise _not_the_source(run, name, f"a link to {target}, out of the project")
    for name, digest in code.items():
        found = _digest(project / name)
        if found != digest:
            raise _not_the_source(run, name, f"{found[:12]}, expected {digest[:12]}")


def bring_data(run: Run, project: Path) -> None:
    """Bring the run's snapshot by its hashes. Raises Refusal, naming what cannot be had."""
    snapshot = Path(run.config["data"]["snapshot"])
    tracked = None
    for file in sorted(project.glob("[!.]*.dvc")):
        if any(snapshot.is_relative_to(path) for path, _ in outs_of(file)):
            tracked = file.name
            remotes.pull(project, tracked, "the data of the run cannot be had any more")
            break
    expected, found = run.layer("data")["snapshot"]["sha256"], _digest(project / snapshot)
    if found != expected:
        raise Refusal(
            "the data of the run was not tracked as it was used",
            where=str(snapshot),
            expected=f"sha256 {expected}",
            got=f"{found} from {tracked or 'the commit'}",
            fix="the file was changed without `dvc add`; bring the version that was used",
        )


def _target(run: Run, project: Path, name: str) -> Path:
    """Where a file of the run's source goes. Raises Refusal if that is not in the project."""
    target = project / name
    if not target.parent.resolve().is_relative_to(project.resolve()) or target.is_symlink():
        raise _not_the_source(run, name, "a path that leads out of the project, or a link")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _digest(path: Path) -> str:
    return digest_file(path) if path.is_file() else "no such file"


def _not_the_source(run: Run, where: str, got: str) -> Refusal:
    return Refusal(
        "the source of the run cannot be put together again",
        where=where,
        expected=f"the files that the record of {run.name} names",
        got=got,
        fix="bring the whole run folder (uncommitted/) from where the run was made",
    )
