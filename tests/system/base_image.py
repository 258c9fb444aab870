"""A base image without a public registry: Debian by debootstrap, served by digest on loopback.

Stands in for the image that the Dockerfile names. It is pushed to a registry of our own, so
that `FROM host:port/base@sha256:...` is really resolved by digest: a wrong one must fail.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import debian_packages
from debian_packages import NotHere
from docker_engine import Engine

_TIME = 1700000000  # seconds since 1970; of every file of the base
_START_SECONDS = 20


class Registry:
    """Debian's docker-registry on a free port of the loopback interface."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{self.address}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: '{folder}/data'}}}}\n"
        )
        with (folder / "log").open("wb") as log:
            command = ["setpriv", "--pdeathsig=TERM", "docker-registry", "serve", str(config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait(folder / "log")

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://{self.address}/v2/", timeout=1).close()
                return
            time.sleep(0.1)
        self.stop()
        raise NotHere(f"docker-registry does not start: {log.read_text()[-300:]}")

    def stop(self) -> None:
        """End the registry."""
        self._process.terminate()
        self._process.wait(timeout=20)


def serve_base(engine: Engine, registry: Registry, folder: Path) -> str:
    """Make the base image from `folder`, push it, and give `host:port/name@sha256:...`."""
    name = f"{registry.address}/stand-in-base"
    _make_root(folder)
    (folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    engine.docker(
        "buildx", "build", "--quiet", "--provenance=false",
        f"--build-arg=SOURCE_DATE_EPOCH={_TIME}",
        f"--output=type=image,name={name}:1,push=true,compression=uncompressed,oci-mediatypes=true",
        str(folder),
    )  # fmt: skip
    shown = engine.docker("image", "inspect", f"{name}:1", "--format", "{{json .RepoDigests}}")
    return next(found for found in json.loads(shown.stdout) if found.startswith(name))


def _make_root(folder: Path) -> None:
    """A normalised tar of Debian bookworm, minbase (about 200 MB, half a minute)."""
    archive = folder / "base.tar"
    if archive.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    root = folder.with_suffix(".root")
    command = ["debootstrap", "--variant=minbase", "bookworm", str(root), debian_packages.mirror()]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise NotHere(f"debootstrap: {done.stdout.strip()[-300:]}")
    left_out = ("./var/cache/apt/archives/*.deb", "./var/lib/apt/lists/*", "./var/log/*")
    normal = ("--sort=name", f"--mtime=@{_TIME}", "--numeric-owner", "-cf", str(archive))
    subprocess.run(
        ["tar", "-C", str(root), *(f"--exclude={pattern}" for pattern in left_out), *normal, "."],
        check=True,
    )
    shutil.rmtree(root)
