"""Another processor: qemu's user-mode emulation, one pinned build of it.

A whole process runs on the emulated processor, 10 to 100 times slower; what it starts runs on the
real one. qemu before 10 computes LSTM and grid_sample wrong. Its emulation has no AVX-512,
whatever the model it is told to be.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from debian_packages import mirror

_VERSION = "10.0.2+ds-2+deb13u1~bpo12+1"  # of bookworm-backports; statically linked
_SHA256 = "10a2dec99f2b2d0b1097ff0375aea35b89322d6631fc96700511b02e05bf6fef"  # of the package
_SNAPSHOT = "http://snapshot.debian.org/archive/debian/20261101T000000Z"  # where mirrors moved on
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class NoEmulator(Exception):
    """Why no processor can be emulated here."""


def bring_emulator(folder: Path) -> Path:
    """The program qemu-x86_64, kept in `folder`; needs apt, and not root.

    Raises NoEmulator with the reason where it cannot be had.
    """
    program = folder / _VERSION / "usr/bin/qemu-x86_64"
    if program.is_file():
        return program
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb") and _KEYRING.is_file()):
        raise NoEmulator("this is no Debian to take qemu-user from")
    reasons = []
    for place in (mirror(), _SNAPSHOT):
        try:
            package = _download(place, folder / "apt")
        except NoEmulator as reason:
            reasons.append(f"{place}: {reason}")
            continue
        subprocess.run(["dpkg-deb", "-x", package, folder / _VERSION], check=True)
        shutil.rmtree(folder / "apt")
        return program
    raise NoEmulator("; ".join(reasons))


def _download(mirror: str, folder: Path) -> Path:
    """Download the package with private sources and lists; this machine's apt stays as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "sources.list").write_text(
        f"deb [signed-by={_KEYRING}] {mirror} bookworm-backports main\n"
    )
    options = [
        f"-oDir::Etc::SourceList={folder}/sources.list",
        "-oDir::Etc::SourceParts=/dev/null",
        f"-oDir::State::Lists={folder}/lists",
        f"-oDir::Cache={folder}",
        "-oAcquire::Check-Valid-Until=false",
        "-oAcquire::http::Timeout=20",
        "-oAPT::Sandbox::User=root",
    ]
    for words in (["update", "-qq", "-oAPT::Update::Error-Mode=any"],
                  ["download", "-qq", f"qemu-user=1:{_VERSION}"]):  # fmt: skip
        done = subprocess.run(
            ["apt-get", *options, *words], cwd=folder, text=True, capture_output=True, check=False
        )
        if done.returncode:
            raise NoEmulator(f"apt-get {words[0]}: {done.stderr.strip()[-200:]}")
    package = next(folder.glob("qemu-user_*.deb"))
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != _SHA256:
        raise NoEmulator(f"{package.name} has sha256 {found}, expected {_SHA256}")
    return package
