"""The source of a run in a folder of its own: its commit, its patch, its untracked files, its data.

The working tree that it is called from is left untouched.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from saigen.digest import digest_file
from saigen.judgement.remaking import remotes
from saigen.judgement.run import Run
from saigen.recipe.code import git
from saigen.refusal import Refusal


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A git worktree at a commit, gone afterwards; gives the project's folder in it.

    Raises Refusal if the commit is not in this repository.
    """
    if git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise Refusal(
            "the commit of the run is not in this repository",
            where=str(root.resolve()),
            expected=f"commit {commit}",
            got="no such commit",
            fix="`git fetch --all`, or fetch it from the clone in which the run was made",
        )
    prefix = git(root, "rev-parse", "--show-prefix").stdout.decode().strip()
    with tempfile.TemporaryDirectory(prefix="saigen-rerun-") as scratch:
        tree = Path(scratch) / "project"
        added = git(root, "worktree", "add", "--detach", "--force", str(tree), commit)
        if added.returncode:
            raise Refusal(
                "the commit cannot be checked out",
                where=str(tree),
                expected="a git worktree",
                got=added.stderr.decode().strip(),
                fix="make room in the temporary folder (TMPDIR), or mend the repository",
            )
        try:
            remotes.share(root, tree / prefix)
            yield tree / prefix
        finally:
            shutil.rmtree(tree, ignore_errors=True)
            git(root, "worktree", "prune")


def commit_of(run: Run) -> str:
    """The commit of a run. Raises Refusal if it has none, or if what was not committed is lost."""
    state: dict[str, Any] = run.record["circumstances"].get("git") or {}
    patch = digest_file(run.patch) if run.patch.is_file() else None
    lost = [
        name
        for name, digest in state.get("untracked", {}).items()
        if name.startswith(("src/", "conf/")) and run.content(digest, name) is None
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
        fix="bring the whole run folder from where the run was made, or commit before training",
    )


def lay_out(run: Run, project: Path) -> None:
    """Lay what was not committed over the commit.

    Raises Refusal unless every source file is then what the record says.
    """
    if run.patch.is_file():
        applied = git(project, "apply", "--whitespace=nowarn", str(run.patch.resolve()))
        if applied.returncode:
            raise _not_the_source(run, "code.patch", applied.stderr.decode().strip())
    for name, digest in run.record["circumstances"]["git"].get("untracked", {}).items():
        if (content := run.content(digest, name)) is not None:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_bytes(content)
    for name, digest in run.layer("code")["files"].items():
        found = _digest(project / name)
        if found != digest:
            raise _not_the_source(run, name, f"{found[:12]}, expected {digest[:12]}")


def bring_data(run: Run, project: Path) -> None:
    """Bring the run's snapshot by its hashes. Raises Refusal, naming what cannot be had."""
    snapshot = Path(run.config["data"]["snapshot"])
    tracked = None
    for file in sorted(project.glob("[!.]*.dvc")):
        outs = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("outs", ())
        if any(snapshot.is_relative_to(out["path"]) for out in outs):
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
