"""What a build of the image gets besides the project: pip's settings, certificates, wheels.

    python build_inputs.py LOCK FOLDER

Writes FOLDER/pip.conf and FOLDER/certificates.crt, which go in as build secrets, and
FOLDER/wheels, a build context with the lock's files that lie in this machine's wheelhouses.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pip_settings import PipSettings, for_build, read_settings

SYSTEM_STORE = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian, Ubuntu
INSIDE = "/run/certificates.crt"


def main(lock: Path, folder: Path) -> None:
    """Write the three; a wheel that is there already is not copied again."""
    settings = read_settings()
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    bundle = Path(settings.certificates) if settings.certificates else SYSTEM_STORE
    (folder / "certificates.crt").write_bytes(bundle.read_bytes() if bundle.exists() else b"")
    inside = INSIDE if bundle.exists() else ""
    write_private(folder / "pip.conf", for_build(settings, inside))
    wanted = set(re.findall(r"^([a-z0-9-]+==[^ ]+)", lock.read_text(), re.M))
    found = {path.name: path for path in _local_files(settings) if _requirement(path) in wanted}
    for path in wheels.iterdir():
        if path.name not in found:
            path.unlink()
    for name, path in found.items():
        target = wheels / name
        if not target.exists() or target.stat().st_size != path.stat().st_size:
            shutil.copyfile(path, target)
            os.utime(target, (0, 0))  # the build context's digest must not depend on the copy


def write_private(path: Path, text: str) -> None:
    """Write what only this account may read, from its first byte on: it may hold a password."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _local_files(settings: PipSettings) -> Iterator[Path]:
    for place in settings.find_links:
        path = unquote(urlsplit(place).path) if place.startswith("file:") else place
        if "://" not in path and Path(path).is_dir():
            yield from Path(path).glob("*.whl")


def _requirement(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return re.sub(r"[-_.]+", "-", name).lower() + "==" + version


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
