"""What DVC keeps of a run: brought from the cache and the remotes, or refused by name."""

import configparser
from pathlib import Path

from saigen.errors import Refusal
from saigen.git_dvc import dvc

_LOCAL = Path(".dvc/config.local")


def pull(project: Path, target: str, what: str) -> None:
    """Bring an output (`model`) or a .dvc file's, from whichever remote has it.

    Raises Refusal, with `what` as its first line and every object that is missing.
    """
    output = ""
    listed = dvc(project, "remote", "list").stdout.decode().splitlines()
    for remote in ([], *([f"--remote={line.split()[0]}"] for line in listed)):
        pulled = dvc(project, "pull", *remote, "--", target)
        if not pulled.returncode:
            return
        output += pulled.stderr.decode(errors="replace")
    path = target.removesuffix(".dvc")
    contents = dvc(project, "list", "-R", "--dvc-only", "--show-hash", ".", path).stdout.decode()
    missing = [
        f"{path}/{name.strip()} (md5 {md5})"
        for md5, _, name in (line.partition(" ") for line in contents.splitlines())
        if md5 in output or md5[2:] in output
    ]
    raise Refusal(
        what,
        where=target,
        expected=f"every object of {path}",
        got=f"missing: {', '.join(missing) or output.strip()[-400:]}",
        fix="`dvc push` from a clone that has it; `dvc remote list` names the remotes",
    )


def share(root: Path, project: Path) -> None:
    """Give a worktree this clone's DVC cache and its remotes as they are today.

    A remote outside of the repository may have moved since the commit, and its path may be
    relative to this clone; one inside is what the commit has.
    """
    config = configparser.ConfigParser(interpolation=None)
    config.read([root / ".dvc/config", root / _LOCAL], encoding="utf-8")
    inside = (root / ".dvc").resolve()
    for section in config.sections():
        url = config.get(section, "url", fallback="")
        target = (inside / url).resolve()
        if url and "://" not in url and not target.is_relative_to(inside):
            config[section]["url"] = str(target)
    config.read_dict({"core": {"no_scm": "true"}, "cache": {"dir": str(inside / "cache")}})
    (project / ".dvc").mkdir(exist_ok=True)
    with (project / _LOCAL).open("w", encoding="utf-8") as file:
        config.write(file)
