"""The code layer: the source that runs, byte for byte, and where it stands in git's history."""

import subprocess
from pathlib import Path
from typing import Any

from saigen.digest import digest_bytes, digest_file
from saigen.recipe.layer import Layer

SOURCE = Path("src")


def capture(root: Path) -> Layer:
    """The digest of every Python file below src/. The commit is a circumstance: a commit that
    changes a README makes no other run.
    """
    files = sorted(path for path in (root / SOURCE).rglob("*.py") if path.is_file())
    return Layer("code", {"files": {str(f.relative_to(root)): digest_file(f) for f in files}})


def git_state(root: Path) -> dict[str, Any]:
    """Commit, branch, and what is not committed: `patch` (text) and `untracked` (path: digest).

    Outside a git checkout, or without git, every value is None or empty.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "branch": None, "patch": "", "patch_sha256": None, "untracked": {}}
    # what the pipeline itself writes says nothing about the source
    own = (".", ":!dvc.lock", ":!params.yaml", ":!prepare_sources.json", ":!results")
    patch = _git(root, "diff", "--binary", "HEAD", "--", *own) or ""
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *own) or ""
    untracked = [name for name in listed.split("\0") if name and (root / name).is_file()]
    return {
        "commit": commit.strip(),
        "branch": (_git(root, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "patch": patch,
        "patch_sha256": digest_bytes(patch.encode(errors="surrogateescape")) if patch else None,
        "untracked": {name: digest_file(root / name) for name in sorted(untracked)},
    }


def git(root: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """What git answers; where there is no git, that it failed."""
    command = ["git", *arguments]
    try:
        return subprocess.run(
            command, cwd=root, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, b"", str(error).encode())


def _git(root: Path, *arguments: str) -> str | None:
    done = git(root, *arguments)
    return None if done.returncode else done.stdout.decode(errors="surrogateescape")
