"""YAML that may come from anybody: looked through event by event before anything is made of it.

A few lines of anchors can stand for a billion values, and a flow of brackets can be deeper than
any stack. Events tell both without building them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml import events

from saigen.documents import read_bytes

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
YAML_BYTES = 1 << 20  # of one file
_VALUES = 10_000  # of one file, each alias counted as what it stands for
_DEPTH = 24
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_NUMBER_CHARACTERS = 22  # no whole number of a config has more, in whatever base
_RESOLVER: Any = yaml.resolver.Resolver()
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+")  # a number to OmegaConf


class UnreadableYaml(ValueError):
    """A text that is no YAML, or not of a config's size and kind; `line` counts from 1."""

    def __init__(self, why: str, line: int | None) -> None:
        super().__init__(why)
        self.line = line


def refuse_bomb(text: str) -> None:
    """Raise UnreadableYaml on a text that is too large or too deep once its aliases are followed,
    refers to itself, or has a key that is no text.
    """
    if len(text) > YAML_BYTES:
        raise UnreadableYaml(f"more than {YAML_BYTES} characters", None)
    size = _Size()
    try:
        for event in yaml.parse(text, Loader=LOADER):
            size.add(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise UnreadableYaml(error.problem or str(error), line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the control character U+{error.character:04X}"
        raise UnreadableYaml(what, line) from error


class _Size:
    """How many values the events so far stand for, and how deep."""

    def __init__(self) -> None:
        self.total = 0
        self.of_anchor: dict[str | None, int] = {}
        self.opened: list[_Collection] = []

    def add(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if why := self._wrong(event) if isinstance(event, events.NodeEvent) else "":
            raise UnreadableYaml(why, line)
        if isinstance(event, events.CollectionStartEvent):
            mapping = isinstance(event, events.MappingStartEvent)
            self.opened.append(_Collection(event.anchor, mapping, self.total))
        elif isinstance(event, events.CollectionEndEvent):
            closed = self.opened.pop()
            self.of_anchor[closed.anchor] = self.total - closed.before + 1
        if self.total > _VALUES:
            raise UnreadableYaml(f"more than {_VALUES} values, aliases followed", line)
        if len(self.opened) > _DEPTH:
            raise UnreadableYaml(f"nested more than {_DEPTH} deep", line)

    def _wrong(self, event: Any) -> str:
        """Count a value; why it cannot be taken, or an empty text."""
        around = self.opened[-1] if self.opened else None
        if around:
            around.children += 1
            if around.mapping and around.children % 2 and (why := _no_key(event)):
                return why
        if isinstance(event, events.AliasEvent):
            if event.anchor in [one.anchor for one in self.opened]:
                return f"*{event.anchor} stands inside itself"
            self.total += self.of_anchor.get(event.anchor, 1)
        else:
            self.total += 1
            self.of_anchor[event.anchor] = 1
        return _no_scalar(event) if isinstance(event, events.ScalarEvent) else ""


@dataclass
class _Collection:
    """A list or mapping whose end has not come."""

    anchor: str | None
    mapping: bool
    before: int  # values before it
    children: int = 0


def _no_key(event: Any) -> str:
    if not isinstance(event, events.ScalarEvent):
        return "a key that is an alias, a list or a mapping"
    plain, kind = event.implicit[0] and event.tag is None, _kind(event)
    if plain and _EXPONENT.fullmatch(event.value):
        kind = "float"
    if kind in ("int", "float", "bool", "null", "timestamp"):
        name = "number" if kind in ("int", "float") else kind
        return f"the key {event.value[:40]!r}, which YAML reads as a {name}: put it in quotes"
    return "" if event.value else "an empty key"


def _no_scalar(event: Any) -> str:
    if found := _HIDDEN.search(event.value):
        return f"the control character U+{ord(found[0]):04X}"
    if len(event.value) >= _NUMBER_CHARACTERS and _kind(event) == "int":
        return f"a number of {len(event.value)} digits"
    return ""


def _kind(event: Any) -> str:
    """What YAML takes a scalar for: by the tag it has, or by its looks if it stands plain."""
    tag = event.tag
    if tag is None and event.implicit[0]:
        tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False))
    return (tag or "").rpartition(":")[2]


def read_yaml(path: Path, limit: int = YAML_BYTES) -> Any:
    """The value in a YAML file. Raises OSError, or ValueError if it is not plain and bounded."""
    text = read_bytes(path, limit).decode()
    refuse_bomb(text)
    try:
        return yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        raise UnreadableYaml(str(error).splitlines()[0], None) from error


def outs_of(path: Path) -> list[tuple[str, str | None]]:
    """Path and MD5 of each output that a .dvc file or dvc.lock names; none if it is neither."""
    try:
        found = read_yaml(path)
    except (OSError, ValueError):
        return []
    stages = found.get("stages") if isinstance(found, dict) else None
    holders = [found, *(stages.values() if isinstance(stages, dict) else ())]
    outs = [holder.get("outs") for holder in holders if isinstance(holder, dict)]
    each = [out for listed in outs if isinstance(listed, list) for out in listed]
    return [
        (out["path"], out.get("md5"))
        for out in each
        if isinstance(out, dict) and isinstance(out.get("path"), str)
    ]
