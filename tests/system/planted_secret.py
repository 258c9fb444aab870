"""A secret, planted wherever people keep theirs, and the search for where it came out."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

PLANTED = f"planted-{secrets.token_hex(8)}"
# Of a clone; the others lie outside it. Each with what is around the secret there.
_FILES = {
    ".env": "TRACKER_API_KEY={}\n",
    ".dvc/config.local": "['remote \"private\"']\n  url = https://dvc.invalid/x\n  password = {}\n",
    "id_ed25519": "{}",
    "notes.txt": "the password is {}\n",
    "notebook.ipynb": '{{"cells": [{{"source": ["token = \'{}\'"]}}]}}',
    "src/project/untracked.py": '"""Mine."""\n\nAPI_KEY = "{}"\n',
    "src/project/kaggle.json": '{{"username": "me", "key": "{}"}}',
    "conf/model/.env.prod": "PASSWORD={}",
}
PLACES = {*_FILES, ".git/config"}

_DOCKER = Path(__file__).parent.parent.parent / "docker"
_BLOCK = 1 << 24  # bytes


def plant(clone: Path, home: Path) -> dict[str, str]:
    """Put it into files of many kinds, behind a link, into a remote's address, pip's settings, and
    the environment given back.
    """
    for name, around in _FILES.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(around.format(PLANTED))
    (clone / "id_ed25519").chmod(0o600)
    home.mkdir(parents=True, exist_ok=True)
    (home / "password").write_text(PLANTED)
    (clone / "linked.json").symlink_to(home / "password")
    address = f"https://somebody:{PLANTED}@git.invalid/project.git"
    subprocess.run(["git", "remote", "set-url", "origin", address], cwd=clone, check=True)
    _plant_pip_settings(home / ".config/pip/pip.conf")
    passed = ("PATH", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in passed if name in os.environ}
    environment |= {"AWS_SECRET_ACCESS_KEY": PLANTED, "TRACKER_TOKEN": PLANTED}
    return environment | {"HOME": str(home)}


def holds(path: Path, needle: bytes) -> bool:
    """Whether a file holds some bytes, read in blocks that overlap."""
    tail = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if needle in tail + block:
                return True
            tail = block[-len(needle) :]
    return False


def holders(folder: Path) -> set[str]:
    """The files below a folder that hold the secret."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)) for path in files if holds(path, PLANTED.encode())}


def _plant_pip_settings(path: Path) -> None:
    """This account's own settings, so that packages are found, and the secret among them.

    In a real one it would be the password in a mirror's address.
    """
    sys.path.append(str(_DOCKER))
    from pip_settings import read_settings

    settings = read_settings()
    options = {
        "index-url": settings.index,
        "extra-index-url": " ".join(settings.extra_indexes),
        "find-links": " ".join(settings.find_links),
        "trusted-host": " ".join([*settings.trusted_hosts, f"{PLANTED}.invalid"]),
        "no-index": str(settings.no_index).lower(),
        "proxy": settings.proxy,
        "cert": settings.certificates,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {text}" for key, text in options.items() if text]
    path.write_text("\n".join(["[global]", *lines, ""]))
