"""A real Docker engine for the system tests: one of our own, for a while.

Ours comes from Debian packages (engine and client 26, buildx and compose of trixie, on a bookworm
host), keeps everything in one folder, listens on a socket there, has no bridge and touches
no firewall. It ends with `stop`, and by itself when the process that started it is gone.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import debian_packages
from debian_packages import NotHere

_START_SECONDS = 60
_STOP_SECONDS = 60
_TRIXIE = ("docker.io", "docker-cli", "docker-buildx", "docker-compose")
_PROGRAMS = ("debootstrap", "docker-registry", "curl")  # and what else these tests call


@dataclass
class Engine:
    """A running engine: `docker(...)` speaks to it."""

    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None  # None: it was kept, and is left running

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one docker command and give back its output; fail with all of it."""
        command = [self.environment["DOCKER"], *arguments]
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def stop(self) -> None:
        """End the engine, if it is ours, with everything it started; remove what it kept."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_STOP_SECONDS)
        clear_away(self.folder)


def start_engine(folder: Path, *, keep: bool = False) -> Engine:
    """Start an engine in `folder`, or give the one that was kept there.

    `keep`: it outlives this process. Raises NotHere with the reason why none can run.
    """
    environment = os.environ | {
        "DOCKER": "/usr/bin/docker",  # another client, without buildx, may stand first in PATH
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": f"{folder}/config",
    }
    if _answers(environment):
        return Engine(environment, folder, None)
    if os.geteuid() != 0:
        raise NotHere("only root can start one and be another user towards it")
    missing = [program for program in _PROGRAMS if not shutil.which(program)]
    if not _has_plugins():
        missing += _TRIXIE
    if missing:
        debian_packages.install(missing, from_trixie=_TRIXIE)
    return Engine(environment, folder, _start(folder, environment, keep=keep))


def clear_away(folder: Path) -> None:
    """End every process that works in `folder`, unmount what lies below, and remove it."""
    for _ in range(50):
        left = processes_in(folder)
        if not left:
            break
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    for mount in mounts_below(folder):
        subprocess.run(["umount", "--lazy", mount], check=False)
    assert not mounts_below(folder)  # else what is mounted would be removed
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # 100,000 files: quicker than rmtree


def mounts_below(folder: Path) -> list[str]:
    """Mount points below a folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in reversed(points) if point.startswith(f"{folder}/")]


def _start(
    folder: Path, environment: dict[str, str], *, keep: bool
) -> subprocess.Popen[bytes] | None:
    folder.mkdir(parents=True, exist_ok=True)
    # BuildKit gives images in the engine a digest with the containerd image store alone
    (folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
    # the kernel ends it when this process is gone, however that came about
    command = ["setsid", "--fork"] if keep else ["setpriv", "--pdeathsig=TERM"]
    command += ["/usr/sbin/dockerd", "--config-file", f"{folder}/daemon.json"]
    command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--pidfile", f"{folder}/dockerd.pid", "-H", environment["DOCKER_HOST"]]
    command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(environment):
        if process.poll() not in (None, 0) or time.monotonic() > deadline:
            said = (folder / "dockerd.log").read_text().splitlines()[-1]
            Engine(environment, folder, process).stop()
            raise NotHere(f"dockerd does not start: {said}")
        time.sleep(0.25)
    (folder / "docker.sock").chmod(0o666)  # the tests' ordinary user is a caller, too
    return None if keep else process


def _answers(environment: dict[str, str]) -> bool:
    command = [environment["DOCKER"], "info"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        return done.returncode == 0
    return False


def _has_plugins() -> bool:
    if not (Path("/usr/bin/docker").exists() and Path("/usr/sbin/dockerd").exists()):
        return False
    commands = (["/usr/bin/docker", plugin, "version"] for plugin in ("buildx", "compose"))
    return all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in commands
    )


def processes_in(folder: Path) -> list[int]:
    """Processes whose command names a path in `folder`: the engine, containerd, its shims."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{folder}/".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [process for process in found if process != os.getpid()]
