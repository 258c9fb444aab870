"""The project's image as an ordinary user builds and runs it, in a clone of this repository."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker_engine import Engine

ROOT = Path(__file__).parent.parent.parent
CALLER = (12345, 54321)  # the user and group for whom the image is built; no account has them
STRANGER = (23456, 65432)  # a user and group of whom the image knows nothing


@dataclass
class Built:
    """The project's image, built by `make image` in a clone that belongs to CALLER."""

    engine: Engine
    base: str
    clone: Path
    environment: dict[str, str]  # the caller's
    log: str  # of the build
    name: str = "saigen:cpu"
    caller: tuple[int, int] = CALLER

    def make(self, *words: str, flags: str = "", check: bool = True, timeout: int = 900) -> str:
        """Run make in the clone as the caller; give back what it printed."""
        return self.call("make", *words, flags=flags, check=check, timeout=timeout)

    def call(self, *words: str, flags: str = "", check: bool = True, timeout: int = 900) -> str:
        """Run a command in the clone as the caller; `flags` go to `docker run`."""
        uid, gid = self.caller
        done = subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *words],
            cwd=self.clone,
            env=self.environment | {"SAIGEN_RUN_FLAGS": flags},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}\n{done.stdout}"
        return done.stdout

    def inspect(self) -> dict[str, Any]:
        """What the engine says of the image."""
        found: dict[str, Any] = json.loads(
            self.engine.docker("image", "inspect", self.name).stdout
        )[0]
        return found

    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return dict(self.inspect()["Config"]["Labels"])


def clone_working_tree(clone: Path) -> Path:
    """A clone of this repository with what is changed and not committed yet."""
    shutil.rmtree(clone, ignore_errors=True)  # of an earlier run, where the engine is kept
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    return clone


def give_to(folder: Path, owner: tuple[int, int]) -> None:
    """Make a user and group the owner of a folder and everything in it."""
    subprocess.run(["chown", "-R", ":".join(map(str, owner)), str(folder)], check=True)


def owners(folder: Path) -> set[tuple[int, int]]:
    """To whom the files of a clone belong; git's own are left out."""
    paths = (path for path in folder.rglob("*") if ".git/" not in str(path))
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in paths}


def stand_in_arguments(base: str) -> dict[str, str]:
    """Build arguments in place of the public base: Debian's Python, and today's packages."""
    return {
        "CPU_BASE": base,
        "APT_SNAPSHOT": "",
        "APT_PYTHON": "python3.11",
        "PYTHON_VERSION": "3.11.2",
    }


def build_flags(arguments: dict[str, str]) -> str:
    """Flags for `make image`; an engine without a bridge has the host's network or none."""
    words = (f"--build-arg {name}={text}" for name, text in arguments.items())
    return " ".join(["--network=host", *words])
