"""What was composed before: a note for each params.yaml that a composition wrote, by its digest.

dvc.lock says which params.yaml the stage `compose` left last; the note says which overrides were
in force, and what conf/ said below them, so that a later edit is not hidden behind an override.
Notes are a cache: without one, overrides are derived from the values.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from saigen import files
from saigen.config.keys import value_at
from saigen.config.layers import composed_values
from saigen.config.overrides import options, parse, picked
from saigen.config.sources import read_sources
from saigen.documents import DOCUMENT_BYTES, read_bytes
from saigen.yaml_text import outs_of

NOTES = Path(".saigen/cache/composed")
LOCK = Path("dvc.lock")
PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Note:
    """One params.yaml: its text, the overrides in force, and those of them that were asked for
    (the others come from conf/local), each with what conf/ says below it.
    """

    yaml: str
    overrides: tuple[str, ...]
    asked: dict[str, Any]


@contextlib.contextmanager
def composing(root: Path) -> Iterator[None]:
    """Keep other compositions away from params.yaml, which is read before it is written."""
    (root / NOTES).mkdir(parents=True, exist_ok=True)
    with files.locked(root / NOTES / ".lock"):
        yield


def take(root: Path, note: Note) -> None:
    """Keep a note. A folder that cannot be written costs a derivation later."""
    with contextlib.suppress(OSError):
        _folder(root).mkdir(parents=True, exist_ok=True)
        files.write_json(_folder(root) / f"{md5(note.yaml)}.json", asdict(note))


def note_of(root: Path, digest: str | None) -> Note | None:
    """The note of the params.yaml with this digest, if there is one and it is whole."""
    try:
        content = read_bytes(_folder(root) / f"{digest}.json", DOCUMENT_BYTES)
        note = TypeAdapter(Note).validate_json(content)
    except (OSError, ValueError):
        return None
    return note if md5(note.yaml) == digest else None


def locked(root: Path) -> str | None:
    """The digest of params.yaml in dvc.lock: what the stage `compose` left last."""
    return next((md5 for path, md5 in outs_of(root / LOCK) if path == str(PARAMS)), None)


def md5(text: str) -> str:
    """The digest under which DVC knows a file."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def covered(overrides: Iterable[str], conf: Path) -> dict[str, Any]:
    """What conf/ says where each override says something else: an option, or a value."""
    sources = read_sources(conf)
    groups, defaults = options(sources), picked(sources)
    keys = {text: parse(text).key for text in overrides}
    picks = tuple(text for text, key in keys.items() if key in groups)
    below = composed_values(picks, conf, local=False) if len(picks) < len(keys) else {}
    found = {t: defaults.get(k) if k in groups else value_at(below, k) for t, k in keys.items()}
    return {text: None if value is ... else value for text, value in found.items()}


def _folder(root: Path) -> Path:
    """Experiments in other folders note what they composed in the workspace they came from."""
    return Path(os.environ.get("DVC_ROOT") or root) / NOTES
