"""A real Docker engine for the system tests: the one that runs, or one of our own for a while.

Ours comes from Debian packages (engine and client 26, buildx and compose of trixie, on a bookworm
host), keeps everything in one folder, listens on a socket there, has no bridge and touches
no firewall; `stop` ends it. On where this was learnt: BuildKit's `rewrite-timestamp` needs
the engine 26 and the containerd image store.
"""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TRIXIE = ("docker.io", "docker-cli", "docker-buildx", "docker-compose")
_PROGRAMS = {"debootstrap": "debootstrap", "docker-registry": "docker-registry"}


class NoEngine(Exception):
    """Why no engine can run here."""


@dataclass
class Engine:
    """A running engine: `docker(...)` speaks to it."""

    environment: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None  # None: it ran before us and is left running

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one docker command and give back its output; fail with all of it."""
        command = [self.environment["DOCKER"], *arguments]
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def stop(self) -> None:
        """End the engine if it is ours, and remove what it kept."""
        if self.process is None:
            return
        self.process.terminate()
        self.process.wait(timeout=60)
        for name in ("data", "exec"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def start_engine(folder: Path) -> Engine:
    """Give the engine that runs, else start one in `folder`. Raises NoEngine with the reason."""
    environment = dict(os.environ)
    environment.setdefault("DOCKER", shutil.which("docker") or "docker")
    if shutil.which(environment["DOCKER"]) and _answers(environment):
        return Engine(environment, folder, None)
    _install()
    folder.mkdir(parents=True, exist_ok=True)
    # another client, without buildx, may stand first in PATH
    environment |= {
        "DOCKER": "/usr/bin/docker",
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": str(folder / "config"),
    }
    (folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
    command = ["/usr/sbin/dockerd", "--config-file", f"{folder}/daemon.json"]
    command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--pidfile", f"{folder}/dockerd.pid", "-H", environment["DOCKER_HOST"]]
    command += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
    with (folder / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(environment):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            tail = (folder / "dockerd.log").read_text().splitlines()[-3:]
            raise NoEngine(f"dockerd does not start: {' | '.join(tail)}")
        time.sleep(0.25)
    (folder / "docker.sock").chmod(0o666)  # the tests' ordinary user is a caller, too
    return Engine(environment, folder, process)


def _answers(environment: dict[str, str]) -> bool:
    command = [environment["DOCKER"], "info"]
    return (
        subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    )


def _install() -> None:
    if os.geteuid() != 0:
        raise NoEngine("no Docker engine runs, and only root can start one")
    if shutil.which("apt-get") is None or not _KEYRING.exists():
        raise NoEngine("no Docker engine runs, and this is no Debian to install one from")
    missing = [package for package, program in _PROGRAMS.items() if not shutil.which(program)]
    if not _has_plugins():
        missing += _TRIXIE
    if missing:
        _apt_install(missing)


def _has_plugins() -> bool:
    if not (Path("/usr/bin/docker").exists() and Path("/usr/sbin/dockerd").exists()):
        return False
    commands = (["/usr/bin/docker", plugin, "version"] for plugin in ("buildx", "compose"))
    return all(
        subprocess.run(command, capture_output=True, check=False).returncode == 0
        for command in commands
    )


def _apt_install(packages: list[str]) -> None:
    """Install with private sources and lists, so that this machine's apt stays as it is."""
    parts = Path("/tmp/saigen-system-apt")
    shutil.rmtree(parts, ignore_errors=True)
    for name in ("sources", "preferences", "lists/partial"):
        (parts / name).mkdir(parents=True)
    mirror = apt_mirror()
    stanza = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n"
    suites = ("bookworm", "bookworm-updates", "trixie")
    text = "\n".join(stanza.format(mirror, suite, _KEYRING) for suite in suites)
    (parts / "sources/debian.sources").write_text(text)
    pins = ["Package: *\nPin: release n=trixie\nPin-Priority: 1\n"]
    pins.append(f"Package: {' '.join(_TRIXIE)}\nPin: release n=trixie\nPin-Priority: 900\n")
    (parts / "preferences/trixie").write_text("\n".join(pins))
    # policy-rc.d: packages must not start services of their own
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    options = [
        f"-oDir::Etc::SourceParts={parts}/sources",
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::Etc::PreferencesParts={parts}/preferences",
        f"-oDir::State::Lists={parts}/lists",
        "-oDPkg::Lock::Timeout=300",
        "-qq",
    ]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", *options, *words],
                env=environment,
                text=True,
                capture_output=True,
                check=False,
            )
            if done.returncode != 0:
                raise NoEngine(f"apt-get {words[0]}: {done.stderr.strip()[-300:]}")
    finally:
        if ours:
            policy.unlink()


def apt_mirror() -> str:
    """This machine's own mirror of Debian."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]
    done = subprocess.run(
        [*words, "Codename: bookworm"], text=True, capture_output=True, check=False
    )
    return next(iter(done.stdout.split()), "http://deb.debian.org/debian")
