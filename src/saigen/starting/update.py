"""`saigen update`: a newer instrument from the template, into a project that began from it.

Each file is merged by three: as the template had it when the project began (or was last updated),
as it has it now, and as the project has it. What is the project's own (OWN) is never touched.
"""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from saigen import git_dvc
from saigen.errors import Refusal
from saigen.files import write_whole
from saigen.git_dvc import git
from saigen.starting import example, history, init

OWN = ("conf/", "src/project/", "data.dvc", ".dvc/", "README.md", "LICENSE", "results/", "runs/",
       "tests/example/", str(example.MANUAL))  # fmt: skip
_LOCKS = ("docker/lock-cpu.txt", "docker/lock-cuda.txt")


@dataclass
class Update:
    """What an update did, by file."""

    taken: list[str] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    clashes: list[str] = field(default_factory=list)  # both changed the same lines

    def __str__(self) -> str:
        rows = {"taken from the template": self.taken, "merged with your edits": self.merged}
        lines = [f"{name}: {len(files)} files" for name, files in rows.items() if files]
        lines += [f"{name} is yours and the template's changed, too: its file lies beside it, as "
                  f"{name}.update; merge by hand" for name in self.clashes]  # fmt: skip
        return "\n".join(lines or ["nothing to update"])


def update(root: Path, source: str | None, commit: str | None, say: Callable[[str], None]) -> bool:
    """Bring the template's files up to date; returns whether nothing is left to merge by hand.

    `source`, `commit`: of the template; without, where the project came from, its newest commit.
    """
    stated = _stated(root)
    source = source or stated["source"]
    _refuse_unsaved(root)
    with _checkouts(source, stated["commit"], commit) as (old, new):
        done = Update()
        for name in sorted(_files(old) | _files(new)):
            if not name.startswith(OWN):
                _merge(root, old, new, name, done)
        example.keep(root, new)
        told = _told(old, new)
        _note(root, source, git_dvc.head(new) or "")
    say(str(done))
    for line in told:
        say(line)
    if set(_LOCKS) & {*done.taken, *done.merged, *done.clashes}:
        say("the locks changed: with dependencies of your own, make lock")
    say("next: git diff; make test; saigen rerun says whether the published run keeps its bits")
    return not done.clashes


def _merge(root: Path, old: Path, new: Path, name: str, done: Update) -> None:
    mine, base, theirs = (_content(folder / name) for folder in (root, old, new))
    if theirs in (base, mine):
        return
    if mine == base:
        _put(root / name, new / name, theirs)
        done.taken.append(name)
        return
    if base and theirs:  # as they would be here, with the project's own name
        base, theirs = (init.personal(root, name, text) for text in (base, theirs))
    if theirs in (base, mine):
        return
    text = _three_way(mine, base, theirs) if mine and base and theirs else None
    if text is None:
        if theirs is None:
            return  # gone from the template, kept here with an edit
        write_whole(root / f"{name}.update", theirs)
        done.clashes.append(name)
    else:
        write_whole(root / name, text, mode=(root / name).stat().st_mode & 0o777)
        done.merged.append(name)


def _three_way(mine: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """Both edits in one text; None where they clash."""
    with tempfile.TemporaryDirectory(prefix="saigen-merge-") as scratch:
        for name, content in {"mine": mine, "base": base, "theirs": theirs}.items():
            Path(scratch, name).write_bytes(content)
        done = git(Path(scratch), "merge-file", "-p", "mine", "base", "theirs")
    return None if done.returncode else done.stdout


def _put(target: Path, source: Path, content: bytes | None) -> None:
    if content is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content, mode=source.stat().st_mode & 0o777)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _files(checkout: Path) -> set[str]:
    """The files that git has in a checkout."""
    listed = git(checkout, "ls-files", "-z").stdout.decode()
    return {name for name in listed.split("\0") if name}


def _told(old: Path, new: Path) -> list[str]:
    """What else the template changed: a project's conf/ is its own, and may need a key now."""
    names = sorted(
        name
        for name in _files(new)
        if name.startswith("conf/") and _content(old / name) != _content(new / name)
    )
    said = (
        f"the template's own conf/ changed in {', '.join(names)} (now in {example.KEPT}); a key "
        "that is needed is asked for by name when you train"
    )
    return [said] if names else []


@contextmanager
def _checkouts(source: str, base: str, commit: str | None) -> Iterator[tuple[Path, Path]]:
    """The template as it was when the project began, and as it is now."""
    with tempfile.TemporaryDirectory(prefix="saigen-update-") as scratch:
        new, old = Path(scratch, "new"), Path(scratch, "old")
        done = git(Path(scratch), "clone", "-q", values=[source, str(new)])
        if done.returncode:
            raise Refusal(
                "the template cannot be fetched",
                where=history.without_password(source),
                expected="a git repository that can be cloned",
                got=done.stderr.decode(errors="replace").strip()[-300:],
                fix="make update ARGS='--source URL'",
            )
        asked = [f"{name}^{{commit}}" for name in (commit, f"origin/{commit}") if commit]
        found = [git(new, "rev-parse", "--verify", "--quiet", values=[name]) for name in asked]
        at = [done.stdout.decode().split()[-1] for done in found if not done.returncode]
        if at:
            git(new, "checkout", "-q", "--detach", at[0])
        elif asked:
            raise Refusal(
                "the template has no such commit",
                where=f"--commit {commit}",
                expected=f"a commit, tag or branch of {history.without_password(source)}",
                got="none",
                fix="leave out --commit for the newest",
            )
        if not git_dvc.has_commit(new, base):
            raise Refusal(
                "the template does not have the commit that this project began from",
                where=f"tool.saigen.template.commit ({example.PYPROJECT})",
                expected=f"commit {base or 'HASH'} in {history.without_password(source)}",
                got="no such commit",
                fix="write the commit there that was cloned, or name another --source",
            )
        git(new, "worktree", "add", "-q", "--detach", str(old), base)
        yield old, new


def _stated(root: Path) -> dict[str, str]:
    settings = tomllib.loads((root / example.PYPROJECT).read_text(encoding="utf-8"))
    template: dict[str, str] = settings["tool"]["saigen"].get("template")
    if not template:
        raise Refusal(
            "the project does not say which template it began from",
            where=f"tool.saigen.template ({example.PYPROJECT})",
            expected='template = { source = "URL", commit = "HASH" }',
            got="nothing",
            fix="make init writes it; or write it by hand",
        )
    return template


def _refuse_unsaved(root: Path) -> None:
    names = git_dvc.changed(root) if git_dvc.head(root) else ["no commit"]
    if names:
        raise Refusal(
            "an update could not be taken back",
            where=str(root.resolve()),
            expected="every tracked file committed",
            got=", ".join(names)[:300],
            fix="git commit first; `git reset --hard` then takes an update back",
        )


def _note(root: Path, source: str, commit: str) -> None:
    path = root / example.PYPROJECT
    line = example.template_line(history.without_password(source), commit)
    text = re.sub(r"^template = \{.*\}\n", "", path.read_text(encoding="utf-8"), flags=re.M)
    write_whole(path, text.replace("[tool.saigen]\n", f"[tool.saigen]\n{line}\n", 1).encode())
