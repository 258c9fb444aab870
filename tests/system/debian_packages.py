"""Install what a service needs from Debian, and leave this machine's own apt as it is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Where Debian keeps services; an ordinary PATH is without it, and dpkg refuses to work then.
SERVICES_PATH = os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin"


class NotHere(Exception):
    """Why a service cannot run on this machine."""


def install(packages: list[str], from_trixie: tuple[str, ...] = ()) -> None:
    """Install packages of bookworm, and of trixie those that are named so.

    Sources, preferences and lists are private and gone afterwards; no package starts a service.
    Raises NotHere where that cannot be.
    """
    if os.geteuid() != 0:
        raise NotHere(f"only root can install {' '.join(packages)}")
    if shutil.which("apt-get") is None or not _KEYRING.exists():
        raise NotHere(f"this is no Debian to install {' '.join(packages)} from")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        with tempfile.TemporaryDirectory(prefix="saigen-apt-") as folder:
            options = _private(Path(folder), from_trixie)
            _apt_get([*options, "update"])
            _apt_get([*options, "install", "-y", "--no-install-recommends", *packages])
    finally:
        if ours:
            policy.unlink()


def mirror() -> str:
    """This machine's own mirror of Debian."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"]
    done = subprocess.run(
        [*words, "Codename: bookworm"], text=True, capture_output=True, check=False
    )
    return next(iter(done.stdout.split()), "http://deb.debian.org/debian")


def _private(folder: Path, from_trixie: tuple[str, ...]) -> list[str]:
    """Options that let apt look nowhere but below `folder` for where packages come from."""
    folder.chmod(0o755)  # apt reads as a user of its own
    for name in ("sources", "preferences", "lists/partial"):
        (folder / name).mkdir(parents=True)
    stanza = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\nSigned-By: {}\n"
    suites = ("bookworm", "bookworm-updates", *(("trixie",) if from_trixie else ()))
    text = "\n".join(stanza.format(mirror(), suite, _KEYRING) for suite in suites)
    (folder / "sources/debian.sources").write_text(text)
    pins = "Package: *\nPin: release n=trixie\nPin-Priority: 1\n"
    for package in from_trixie:
        pins += f"\nPackage: {package}\nPin: release n=trixie\nPin-Priority: 900\n"
    (folder / "preferences/trixie").write_text(pins)
    return [
        f"-oDir::Etc::SourceParts={folder}/sources",
        "-oDir::Etc::SourceList=/dev/null",
        f"-oDir::Etc::PreferencesParts={folder}/preferences",
        f"-oDir::State::Lists={folder}/lists",
        "-oAcquire::Languages=none",
        "-oDPkg::Lock::Timeout=300",
        "-qq",
    ]


def _apt_get(words: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "PATH": SERVICES_PATH}
    done = subprocess.run(
        ["apt-get", *words], env=environment, text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise NotHere(f"apt-get {words[-1]}: {done.stderr.strip()[-300:]}")
