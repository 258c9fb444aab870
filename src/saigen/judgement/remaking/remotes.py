"""What DVC keeps of a run: brought from the cache and the remotes, or refused by name."""

import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from saigen.refusal import Refusal

_LOCAL = Path(".dvc/config.local")


def dvc(project: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run DVC in a project."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "DVC_"}
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project, capture_output=True, check=False, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def pull(project: Path, target: str, what: str) -> None:
    """Bring an output (`model`) or a .dvc file's, from whichever remote has it.

    Raises Refusal, with `what` as its first line and every object that is missing.
    """
    told = ""
    for remote in ([], *(["--remote", name] for name in _remotes(project))):
        pulled = dvc(project, "pull", *remote, target)
        if not pulled.returncode:
            return
        told += pulled.stderr.decode(errors="replace")
    out = _out(project, target)
    raise Refusal(
        what,
        where=target,
        expected=f"every object of {out['path']} ({out['md5']})",
        got="missing: " + (", ".join(_missing(project, out["path"], told)) or told.strip()[-400:]),
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
        place = (inside / url).resolve()
        if url and "://" not in url and not place.is_relative_to(inside):
            config[section]["url"] = str(place)
    for section in ("core", "cache"):
        if not config.has_section(section):
            config.add_section(section)
    config["core"]["no_scm"] = "true"
    config["cache"]["dir"] = str(inside / "cache")
    (project / ".dvc").mkdir(exist_ok=True)
    with (project / _LOCAL).open("w", encoding="utf-8") as file:
        config.write(file)


def _remotes(project: Path) -> list[str]:
    """The names of all remotes."""
    listed = dvc(project, "remote", "list").stdout.decode()
    return [line.split()[0] for line in listed.splitlines()]


def _out(project: Path, target: str) -> dict[str, str]:
    """Path and digest of an output: of a .dvc file, or of a stage in dvc.lock."""
    if target.endswith(".dvc"):
        found = yaml.safe_load((project / target).read_text(encoding="utf-8"))["outs"]
    else:
        stages = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
        found = [out for stage in stages.values() for out in stage.get("outs", ())]
    out: dict[str, str] = next(o for o in found if target.endswith(".dvc") or o["path"] == target)
    return out


def _missing(project: Path, path: str, told: str) -> Iterator[str]:
    """The files of an output whose objects DVC says it did not find."""
    listed = dvc(project, "list", ".", path, "-R", "--dvc-only", "--show-hash")
    for line in listed.stdout.decode().splitlines():
        md5, _, name = line.partition(" ")
        if md5 in told or md5[2:] in told:
            yield f"{path}/{name.strip()} (md5 {md5})"
