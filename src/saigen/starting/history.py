"""A project's history: where it began, and a fresh one on request."""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

from saigen import git_dvc
from saigen.errors import Refusal
from saigen.git_dvc import git

_ASIDE = Path(".saigen")


def origin(root: Path) -> tuple[str, str]:
    """The template's address and the commit that is checked out; empty where git does not know."""
    told = git(root, "config", "--get", "remote.origin.url").stdout.decode(errors="replace").strip()
    return told, git_dvc.head(root) or ""


def without_password(url: str) -> str:
    """An address as it may be written down."""
    return re.sub(r"(://)[^/@]*@", r"\1", url)


def refuse_unless_own(root: Path) -> None:
    """Raise Refusal where the repository around the folder is another's: in a worktree."""
    folder = root / ".git"
    if folder.exists() and not folder.is_dir():
        raise Refusal(
            "the history of a worktree or submodule belongs to another repository",
            where=str(folder),
            expected="a folder .git, or none",
            got="a file that points elsewhere",
            fix="do this in a plain clone, or leave out --fresh-history",
        )


def begin(root: Path, name: str) -> str:
    """Put the history aside and begin another, with one commit; returns what to say.

    What was is not lost: it lies in .saigen/ until `make clean`.
    """
    aside = ""
    if (root / ".git").is_dir():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        place = root / _ASIDE / f"history-{stamp}.git"
        place.parent.mkdir(exist_ok=True)
        shutil.move(root / ".git", place)
        aside = f"; the former history lies in {place.relative_to(root)}"
    for command in (("init", "-q", "-b", "main", "."), ("add", "-A")):
        done = git(root, *command)
        if done.returncode:
            return f"git {command[0]} failed: {done.stderr.decode(errors='replace').strip()}{aside}"
    done = git(root, "commit", "-q", "-m", f"Begin {name} from the template")
    if done.returncode:
        return f"a fresh history begins with your `git commit`, for git knows no author yet{aside}"
    return f"a fresh history of one commit{aside}"
