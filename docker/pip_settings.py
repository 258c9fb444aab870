"""What pip is told on this machine, said again for uv: mirrors, wheelhouses, certificates.

uv reads no pip settings. A machine that reaches packages only through a mirror, a folder
of wheels or a company's certificate says so to pip; this file reads the same places
(https://pip.pypa.io/en/stable/topics/configuration/) and prints shell assignments::

    UV_FLAGS=(--index-strategy unsafe-best-match)
    UV_EXTRA_INDEXES=file:///srv/simple
    export UV_DEFAULT_INDEX=https://mirror.example/simple
    export UV_FIND_LINKS=/srv/wheels
    export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt

An address may hold a password, so none of them becomes a flag: everybody may read the command line
of a process, and only its own account the environment. Runs with the standard library alone: it is
needed before anything is installed.
"""

import configparser
import os
import pwd
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

PYPI = "https://pypi.org/simple"


@dataclass(frozen=True)
class PipSettings:
    """The settings of pip that decide where files come from, in uv's reach."""

    index: str  # URL; empty when none is set, which means PyPI
    extra_indexes: tuple[str, ...]  # URLs, in the order given
    find_links: tuple[str, ...]  # folders or URLs of pages with links
    trusted_hosts: tuple[str, ...]
    no_index: bool
    certificates: str  # path of a bundle; empty for the system's store
    proxy: str  # URL; empty for what the environment says
    timeout_seconds: str  # a number; empty for the tool's own


def read_settings() -> PipSettings:
    """Read pip's settings: configuration files first, `PIP_*` over them, as pip does."""
    options = _file_options()
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            options[name[4:].lower().replace("_", "-")] = value
    return PipSettings(
        index=options.get("index-url", ""),
        extra_indexes=_reachable(options.get("extra-index-url", "")),
        find_links=_reachable(options.get("find-links", "")),
        trusted_hosts=tuple(options.get("trusted-host", "").split()),
        no_index=options.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        certificates=options.get("cert", ""),
        proxy=options.get("proxy", ""),
        timeout_seconds=options.get("timeout", options.get("default-timeout", "")),
    )


def configuration_files() -> list[Path]:
    """The files pip reads, weakest first.

    The account's own folder stands before $HOME, so that a changed $HOME (a job runner, a
    sandbox) does not hide how this account reaches its packages.
    """
    named = os.environ.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return []
    files = [Path(folder) / "pip/pip.conf" for folder in _xdg_folders()] + [Path("/etc/pip.conf")]
    for home in dict.fromkeys((_account_home(), os.environ.get("HOME", ""))):
        if home:
            files += [Path(home) / ".pip/pip.conf", Path(home) / ".config/pip/pip.conf"]
    if os.environ.get("XDG_CONFIG_HOME"):
        files.append(Path(os.environ["XDG_CONFIG_HOME"]) / "pip/pip.conf")
    return [*files, Path(sys.prefix) / "pip.conf", *([Path(named)] if named else [])]


def for_uv(settings: PipSettings) -> list[str]:
    """Say the settings as lines of bash: flags, then variables.

    The extra indexes stand apart: a lock is made without them, since an index that holds some
    files of a version only would leave the hashes of the others out of the lock.
    """
    flags = ["--index-strategy", "unsafe-best-match"]  # pip's own; every file is hash-checked
    if settings.no_index:
        flags.append("--no-index")
    extra = () if settings.no_index else settings.extra_indexes
    variables = {
        "UV_DEFAULT_INDEX": "" if settings.no_index else settings.index,
        "UV_FIND_LINKS": ",".join(settings.find_links),
        "UV_INSECURE_HOST": " ".join(settings.trusted_hosts),
        "SSL_CERT_FILE": settings.certificates,
        "ALL_PROXY": settings.proxy,
        "UV_HTTP_TIMEOUT": settings.timeout_seconds.partition(".")[0],
    }
    lines = [f"UV_FLAGS=({shlex.join(flags)})", f"UV_EXTRA_INDEXES={shlex.quote(' '.join(extra))}"]
    if not settings.certificates:
        lines.append("export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}")
    return lines + [f"export {key}={shlex.quote(text)}" for key, text in variables.items() if text]


def for_build(settings: PipSettings, certificates: str) -> str:
    """Say the settings as a pip.conf for an image build, where this machine's folders are not.

    `certificates` is the path of the bundle inside the build; empty for none. Folders of wheels
    travel as a build context instead.
    """
    remote = [url for url in settings.extra_indexes if not url.startswith("file:")]
    options = {
        "index-url": settings.index if not settings.index.startswith("file:") else "",
        "extra-index-url": " ".join(remote),
        "trusted-host": " ".join(settings.trusted_hosts),
        "no-index": "true" if settings.no_index else "",
        "proxy": settings.proxy,
        "timeout": settings.timeout_seconds,
        "cert": certificates,
    }
    lines = [f"{key} = {text}" for key, text in options.items() if text]
    return "\n".join(["[global]", *lines]) + "\n"


def _file_options() -> dict[str, str]:
    options: dict[str, str] = {}
    for path in configuration_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, configparser.Error) as error:
            sys.exit(
                "refused: pip's configuration cannot be read\n"
                f"  where:    {path}\n  got:      {_without_lines(error)}"
            )
        for section in ("global", "install"):
            if parser.has_section(section):
                options |= {key.replace("_", "-"): text for key, text in parser.items(section)}
    return options


def _without_lines(error: Exception) -> str:
    """What is wrong with a file, without the lines that it quotes: an address may be among them."""
    numbers = [str(number) for number, _ in getattr(error, "errors", ())]
    number = getattr(error, "lineno", None)
    where = ", ".join(numbers or ([str(number)] if number else []))
    said = getattr(error, "strerror", None) or type(error).__name__
    return f"{said} in line {where}" if where else said


def _reachable(text: str) -> tuple[str, ...]:
    """Split a list of places and drop local folders that are not there, as pip does."""
    places = []
    for place in text.split():
        folder = _folder(place)
        if folder is None or folder.exists():
            places.append(place)
        else:
            note = f"note: {folder} is configured for pip and is not there"
            print(visible(note), file=sys.stderr)
    return tuple(places)


def visible(text: str) -> str:
    """What somebody else said, for a terminal: other lines and letters only."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in text)


def _folder(place: str) -> Path | None:
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return None if "://" in place else Path(place).expanduser()


def _xdg_folders() -> list[str]:
    return os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")


def _account_home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # an arbitrary user id in a container has no account
        return ""


if __name__ == "__main__":
    print("\n".join(for_uv(read_settings())))
