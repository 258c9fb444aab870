"""Where a person's output may go: not over what a verb reads, nor into what the project owns."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from saigen import git_dvc
from saigen.errors import Refusal
from saigen.files import MANIFEST, write_whole

# Below the project's folder; besides these whatever begins with a dot.
_OWNED = ("Dockerfile", "LICENSE", "Makefile", "README.md", "SECURITY.md", "bench", "conf",
          "copier.yml", "data", "data.dvc", "docker", "docs", "dvc.lock", "dvc.yaml", "examples",
          "params.yaml", "prepare_sources.json", "prepared", "pyproject.toml", "results",
          "run_sources.json", "runs", "src", "tests", "tools")  # fmt: skip


def refuse_owned(path: Path, root: Path) -> None:
    """Raise Refusal if a path is a folder that this process stands in, or is part of the project,
    of a repository's inside, or of a run, or a file that a repository keeps.
    """
    full, project = path.resolve(), root.resolve()
    got = ""
    inner = full.relative_to(project).parts if full.is_relative_to(project) else ()
    if any(
        _same(full, folder) for here in (project, Path.cwd()) for folder in (here, *here.parents)
    ):
        got = "a folder that the project lies in"
    elif inner and (inner[0].startswith(".") or _owned(project, inner[0])):
        got = f"part of {inner[0]}, which belongs to the project"
    elif ".git" in full.parts:
        got = "the inside of a git repository"
    elif any((f / "record.json").is_file() and (f / "trace.bin").is_file() for f in full.parents):
        got = "part of a run"
    elif any((f / MANIFEST).is_file() and (f / "recipe.json").is_file() for f in full.parents):
        got = "part of a model folder"
    elif full.is_file() and git_dvc.is_tracked(full):
        got = "a file that git tracks"
    if got:
        raise Refusal(
            "this is no place for an output",
            where=str(path),
            expected="a path outside of runs and of what the project owns",
            got=got,
            fix="name another one, such as out/ or ../out",
        )


def refuse_output(path: Path, root: Path, inputs: Sequence[Path]) -> None:
    """Raise Refusal, before anything is computed, if a file cannot be the output of a verb that
    reads `inputs` (files, or folders with all that is in them).
    """
    got = ""
    if path.is_dir():
        got = "a folder"
    elif _is_special(path):
        return
    elif read := next(
        (i for i in inputs if any(_same(p, i) for p in (path, *path.resolve().parents))), None
    ):
        got = f"{read}, which is read"
    if got:
        raise Refusal(
            "the output would overwrite something else",
            where=str(path),
            expected="a file that is not read, or no file yet",
            got=got,
            fix="name another file",
        )
    refuse_owned(path, root)


def write_output(path: Path, content: bytes) -> None:
    """Write a person's output: a regular file, or the one behind a link, whole by a rename, with
    the rights it had; into a device, a pipe or an open descriptor (/dev/stdout) as it is.
    """
    if _is_special(path):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND), "wb") as file:
            file.write(content)
        return
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    write_whole(target, content, mode=mode)


def _is_special(path: Path) -> bool:
    """Whether a path is something other than a regular file, or an open descriptor of one."""
    link = path
    for _ in range(40):  # as many links as Linux follows
        if os.path.realpath(link.parent).startswith("/proc/"):
            return True
        if not link.is_symlink():
            break
        link = link.parent / link.readlink()
    return link.exists() and not link.is_file()


def _same(path: Path, other: Path) -> bool:
    """Whether two paths are one file or folder: by link, hard link or another case, too."""
    try:
        return path.samefile(other)
    except OSError:
        return False


def _owned(project: Path, name: str) -> bool:
    """Whether a name in the project's folder is one of its own, in whatever case."""
    return name in _OWNED or any(_same(project / name, project / own) for own in _OWNED)
