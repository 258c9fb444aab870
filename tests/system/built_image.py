"""The project's image as an ordinary user builds and runs it, in a clone of this repository."""

import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from docker_engine import Engine

ROOT = Path(__file__).parent.parent.parent
CALLER = (12345, 54321)  # a user and group that no account has
PLANTED = f"planted-{secrets.token_hex(8)}"  # looked for wherever a secret must not be


@dataclass
class Built:
    """The project's image, built by `make image` in a clone that belongs to CALLER."""

    engine: Engine
    base: str
    clone: Path
    environment: dict[str, str]  # the caller's
    log: str  # of the build

    def make(self, *words: str, flags: str = "", check: bool = True, timeout: int = 900) -> str:
        """Run make in the clone as CALLER; give back what it printed."""
        return self.call("make", *words, flags=flags, check=check, timeout=timeout)

    def call(self, *words: str, flags: str = "", check: bool = True, timeout: int = 900) -> str:
        """Run a command in the clone as CALLER; `flags` go to `docker run`."""
        uid, gid = CALLER
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


def clone_working_tree(clone: Path) -> None:
    """A clone of this repository with what is changed and not committed yet."""
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


def build_flags(base: str) -> str:
    """What stands in for the public base: Debian's Python, today's packages, the host's network."""
    arguments = {
        "CPU_BASE": base,
        "APT_SNAPSHOT": "",
        "APT_PYTHON": "python3.11",
        "PYTHON_VERSION": "3.11.2",
    }
    return " ".join(
        ["--network=host", *(f"--build-arg {name}={text}" for name, text in arguments.items())]
    )
