"""Every call of git and of DVC, with settings of its own.

A caller's configuration, repository or environment may colour, filter, redirect or run something at
what git answers; what is kept of a run must come out the same everywhere. So every call clears
the environment of `GIT_*` and `DVC_*`, states each setting that can change an answer, and stands
apart from values that came out of a record.
"""

import functools
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from saigen.errors import Refusal

Done = subprocess.CompletedProcess[bytes]

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

# Where the two have their programs, their configuration and their caches.
_PASSED = {
    "DVC_GLOBAL_CONFIG_DIR", "DVC_NO_ANALYTICS", "DVC_SITE_CACHE_DIR", "DVC_SYSTEM_CONFIG_DIR",
    "GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM",
    "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH",
}  # fmt: skip
_SETTINGS = (
    "apply.ignoreWhitespace=no", "apply.whitespace=nowarn", "color.ui=false",
    "core.attributesFile=/dev/null", "core.autocrlf=false", "core.fsmonitor=false",
    "core.hooksPath=/dev/null", "core.quotePath=false", "core.safecrlf=false",
    "diff.orderFile=/dev/null", "diff.relative=false", "diff.suppressBlankEmpty=false",
    "log.showSignature=false", "submodule.recurse=false",
)  # fmt: skip
_PATCH = (
    "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames",
    "--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0",
    "--diff-algorithm=myers", "--submodule=short", "--ignore-submodules=dirty",
)  # fmt: skip


def git(
    root: Path,
    verb: str,
    *flags: str,
    values: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> Done:
    """What git answers; where there is no git, that it failed.

    `values` may have come from anybody: none of them is taken for a flag. `content` goes to git's
    standard input.
    """
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    last = ["--end-of-options", *values] if values else []
    command = ["git", "--no-pager", *settings, verb, *flags, *last]
    words = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        return subprocess.run(
            command, cwd=root, capture_output=True, check=False, input=content or b"",
            env=_environment() | words | {"LC_ALL": "C"} | dict(environment or {}),
        )  # fmt: skip
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, b"", str(error).encode())


def dvc(project: Path, verb: str, *arguments: str, seconds: float | None = None) -> Done:
    """Run DVC in a project. Raises TimeoutExpired after `seconds`."""
    return subprocess.run(
        [sys.executable, "-m", "dvc", verb, *arguments], cwd=project, capture_output=True,
        check=False, env=_environment(), stdin=subprocess.DEVNULL, timeout=seconds,
    )  # fmt: skip


@functools.cache
def cache(project: Path) -> Path | None:
    """The folder in which DVC keeps the files of a project; None where it has none."""
    done = dvc(project, "cache", "dir")
    return None if done.returncode else Path(os.fsdecode(done.stdout.strip())).resolve()


def head(root: Path) -> str | None:
    """The commit that is checked out; None without one, or where the repository around this
    folder has its files somewhere else.
    """
    top = git(root, "rev-parse", "--show-toplevel")
    top_level = os.fsdecode(top.stdout.removesuffix(b"\n"))
    if top.returncode or not root.resolve().is_relative_to(Path(top_level).resolve()):
        return None
    return _line(git(root, "rev-parse", "--verify", "--quiet", "HEAD"))


def problem(root: Path) -> str:
    """Why git cannot be asked about this folder; empty if it can."""
    asked = git(root, "rev-parse", "--show-toplevel")
    lines = asked.stderr.decode(errors="replace").strip().splitlines()
    return (lines or ["git failed"])[0].removeprefix("fatal: ") if asked.returncode else ""


def branch(root: Path) -> str:
    """The branch that is checked out; HEAD where none is."""
    return _line(git(root, "rev-parse", "--abbrev-ref", "HEAD")) or ""


def has_commit(root: Path, commit: str) -> bool:
    """Whether a commit, from whatever record, is in this repository."""
    whole = bool(COMMIT.fullmatch(commit))
    return whole and not git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode


def committed(root: Path, commit: str, path: str) -> bytes | None:
    """The bytes that a commit (or HEAD) has at a path below `root`; None if it has none."""
    if commit != "HEAD" and not COMMIT.fullmatch(commit):
        return None
    shown = git(root, "cat-file", "blob", values=[f"{commit}:./{path}"])
    return None if shown.returncode else shown.stdout


def commits_of(root: Path, path: str) -> list[str]:
    """Every commit of every branch that changed a path, the newest first."""
    listed = git(root, "rev-list", "--all", "--", path, environment=_LITERAL)
    return listed.stdout.decode().split()


def changed(root: Path) -> list[str]:
    """The names of tracked files below `root` that are not what HEAD has, removed ones too."""
    flags = ("--name-only", "-z", "--relative", "--no-ext-diff", "--no-renames")
    return _names(git(root, "diff", *flags, "--ignore-submodules=dirty", "HEAD", "--", "."))


def untracked(root: Path) -> list[str]:
    """The names of files below `root` that git neither has nor was told to ignore."""
    return _names(git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "."))


def is_tracked(file: Path) -> bool:
    """Whether the repository around a file, whichever it is, keeps it."""
    flags = ("--error-unmatch", "--", file.name)
    return not git(file.parent, "ls-files", *flags, environment=_LITERAL).returncode


def patch(root: Path, names: Sequence[str]) -> bytes:
    """What makes these tracked files out of those of HEAD, for `git apply`."""
    if not names:
        return b""
    return git(root, "diff", *_PATCH, "HEAD", "--", *names, environment=_LITERAL).stdout


def differing_after(root: Path, code: Mapping[str, Path], patch: bytes) -> list[str]:
    """Apply a patch to HEAD in memory: which of the files (by name below `root`) do not come out
    of it byte for byte. Nothing is written into the repository.

    Raises Refusal if the patch cannot be applied.
    """
    with tempfile.TemporaryDirectory(prefix="saigen-index-") as scratch:
        objects = _line(git(root, "rev-parse", "--path-format=absolute", "--git-path", "objects"))
        inside = {
            "GIT_INDEX_FILE": f"{scratch}/index",
            "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects or "",
        }
        Path(scratch, "objects").mkdir()
        done = git(root, "read-tree", "HEAD", environment=inside)
        if patch and not done.returncode:
            done = git(root, "apply", "--cached", "-", environment=inside, content=patch)
        if done.returncode:
            raise Refusal(
                "what is not committed could not be kept so that the run can be made again",
                where=str(root.resolve()),
                expected="a patch that git applies to the commit",
                got=done.stderr.decode(errors="replace").strip()[-400:],
                fix="commit the changes of src/ and conf/ (`git status` lists them), then start "
                "again",
            )
        listed = _names(git(root, "ls-files", "--stage", "-z", "--", ".", environment=inside))
    blobs = {name: entry.split()[1] for entry, _, name in (row.partition("\t") for row in listed)}
    return [name for name, path in code.items() if blobs.get(name) not in _blob_ids(path)]


@contextmanager
def checked_out(root: Path, commit: str) -> Iterator[Path]:
    """A repository of its own with a commit of this one checked out, gone afterwards; gives the
    folder that corresponds to `root`. Nothing is written into this repository, which may be
    read-only.

    Raises Refusal if the commit is not here, or cannot be checked out.
    """
    if not has_commit(root, commit):
        raise Refusal(
            "the commit of the run is not in this repository",
            where=str(root.resolve()),
            expected=f"commit {commit}",
            got="no such commit",
            fix="`git fetch --all`, or fetch it from the clone in which the run was made",
        )
    prefix = _line(git(root, "rev-parse", "--show-prefix")) or ""
    common, kind = (
        _line(git(root, "rev-parse", *flags)) or ""
        for flags in (["--path-format=absolute", "--git-common-dir"], ["--show-object-format"])
    )
    with tempfile.TemporaryDirectory(prefix="saigen-rerun-") as scratch:
        tree = Path(scratch) / "project"
        tree.mkdir()
        done = git(tree, "init", "-q", "--template=", f"--object-format={kind}", ".")
        if not done.returncode:
            information = tree / ".git/objects/info"
            information.mkdir(parents=True, exist_ok=True)
            (information / "alternates").write_bytes(os.fsencode(f"{common}/objects\n"))
            if (shallow := Path(common) / "shallow").is_file():
                (tree / ".git/shallow").write_bytes(shallow.read_bytes())
            done = git(tree, "checkout", "-q", "--force", "--detach", commit)
        if done.returncode:
            raise Refusal(
                "the commit cannot be checked out",
                where=str(tree),
                expected=f"the files of commit {commit}",
                got=done.stderr.decode(errors="replace").strip()[-400:],
                fix="make room in the temporary folder (TMPDIR), or mend the repository "
                "(`git fsck`)",
            )
        yield tree / prefix


def apply(folder: Path, patch: Path, *flags: str) -> str:
    """Apply a patch to the files of a folder; returns what git has against it, empty if nothing."""
    done = git(folder, "apply", *flags, values=[str(patch.resolve())])
    return done.stderr.decode(errors="replace").strip() or "git failed" if done.returncode else ""


_LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED or not name.startswith(("GIT_", "DVC_"))
    }


def _line(done: Done) -> str | None:
    return None if done.returncode else os.fsdecode(done.stdout).removesuffix("\n")


def _names(done: Done) -> list[str]:
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _blob_ids(path: Path) -> set[str]:
    """A file's digests as git would name it, with SHA-1 and with SHA-256."""
    content = path.read_bytes()
    framed = b"blob %d\0" % len(content) + content
    short = hashlib.sha1(framed, usedforsecurity=False)
    return {short.hexdigest(), hashlib.sha256(framed).hexdigest()}
