"""The YAML under conf/ as written: every key's line and comment, and what a file may not contain.

Hydra sees values only. This reads the same files as text, so that a refusal can name the line,
`--explain` can show the comment, and what YAML or Hydra would accept in silence is refused:
a key that stands twice, a number that YAML 1.1 reads as another one, a resolver.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from saigen.documents import read_bytes, reason
from saigen.errors import Refusal
from saigen.yaml_text import LOADER, YAML_BYTES, UnreadableYaml, refuse_bomb

_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"[ \t,:\]}]*#[ \t]*(.*)")
# YAML 1.1 reads 010 as 8 and 1:30 as 90: nobody who wrote it meant that.
_TREACHEROUS = re.compile(r"[-+]?(0[0-9_]+|[0-9]+(:[0-9]{1,2})+)")
# What a config is made of; a tag such as !!python/name asks for code.
_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")
}
_FILES = 500
_DEPTH = 50  # of files that name files
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")


@dataclass(frozen=True)
class Entry:
    """One key of a file: where it stands, what is said about it, and its text if it is a leaf."""

    line: int
    comment: str
    text: str | None


@dataclass(frozen=True)
class Source:
    """One YAML file. `entries` has each full key as it stands inside the file."""

    file: str
    package: str
    text: str
    entries: dict[str, Entry]

    @property
    def leaves(self) -> dict[str, Entry]:
        """The keys that hold a value, by their key inside the file."""
        return {key: entry for key, entry in self.entries.items() if entry.text is not None}


def read_sources(conf: Path) -> dict[str, Source]:
    """Every YAML file under `conf`, by its name for Hydra (``optimizer/adamw``).

    Raises Refusal on a file that is no YAML mapping or holds what is refused before composing.
    """
    if not (conf / "config.yaml").is_file():
        raise Refusal(
            "there is no config to compose",
            where=str(conf / "config.yaml"),
            expected="conf/ with a config.yaml that picks one file of each group",
            got="no such file",
            fix="go to the root of the project, or bring the file back with git",
        )
    names = {  # but not an editor's .#name.yaml
        path: path.relative_to(conf).as_posix() for path in sorted(conf.rglob("[!.]*.yaml"))
    }
    return {
        name.removesuffix(".yaml"): read_text(path, f"{conf.name}/{name}", name.rpartition("/")[0])
        for path, name in names.items()
    }


def refuse_nothing(sources: dict[str, Source], conf: Path) -> None:
    """Raise Refusal if there is nothing to train on: the example is gone, and nothing came yet."""
    if not any(name.startswith("data/") for name in sources):
        raise Refusal(
            "there is nothing to train yet",
            where=str(conf / "data"),
            expected="a file conf/data/NAME.yaml, which names a snapshot and how it is read",
            got="none",
            fix="`saigen init-data FILE` looks at a table and writes data, preparation, task and "
            "model, for you to change (docs/start.md)",
        )


def refuse_many_files(sources: dict[str, Source]) -> None:
    """Raise Refusal if defaults lists name more files, each as often as it is named, than a config
    has: 20 that each name the next one twice are a million to whoever follows them.
    """
    visits: dict[str, int] = {}

    def count(name: str, above: tuple[str, ...]) -> int:
        if name in above or len(above) > _DEPTH:
            return _FILES + 1  # round and round
        if name not in visits:
            within = [count(child, (*above, name)) for child in _named(name, sources)]
            visits[name] = min(1 + sum(within), _FILES + 1)
        return visits[name]

    for name, source in sources.items():
        if count(name, ()) > _FILES:
            raise Refusal(
                "the defaults lists name too many files",
                where=f"defaults ({source.file}:{_line(source)})",
                expected=f"at most {_FILES} files, each as often as it is named",
                got="more, or a file that names itself",
                fix="name each file once",
            )


def _named(name: str, sources: dict[str, Source]) -> list[str]:
    """The files that a file's defaults list names, those that there are."""
    group, found = name.rpartition("/")[0], []
    for key, entry in sources[name].entries.items():
        words = key.split(".")
        if words[0] == "defaults" and len(words) > 1 and entry.text is not None:
            option = entry.text.strip("\"'")
            head = words[2].split()[-1] if len(words) > 2 else ""
            inside = f"{head}/{option}".strip("/")
            candidates = (inside.lstrip("/"), f"{group}/{inside}".strip("/"))
            found += [file for file in dict.fromkeys(candidates) if file in sources][:1]
    return found


def _line(source: Source) -> int:
    return source.entries["defaults"].line if "defaults" in source.entries else 1


def read_text(path: Path, file: str, group: str) -> Source:
    """One YAML file; `file` is what messages call it. Raises Refusal, as `read_sources` does."""
    try:
        text = read_bytes(path, YAML_BYTES).decode("utf-8-sig")
        refuse_bomb(text)
        node = yaml.compose(text, Loader=LOADER)
    except UnreadableYaml as error:
        raise unreadable(f"{file}:{error.line}" if error.line else file, str(error)) from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise unreadable(f"{file}{line}", error.problem or str(error)) from error
    except (OSError, ValueError) as error:
        raise unreadable(file, reason(error)) from error
    if not isinstance(node, yaml.MappingNode | None):
        raise unreadable(f"{file}:1", f"a {type(node).__name__}")
    header = _PACKAGE.search(text)
    package = header.group(1) if header else "_group_"
    package = {"_group_": group.replace("/", "."), "_global_": ""}.get(package, package)
    entries: dict[str, Entry] = {}
    for key, entry in _entries(node, "", text, file) if node else ():
        full = f"{package}.{key}" if package else key
        if key in entries:
            raise Refusal(
                f"{key} stands twice in one file",
                where=f"{key} ({file}:{entry.line})",
                expected="each key once",
                got=f"also on line {entries[key].line}; YAML would keep the last",
                fix="delete one of the two lines",
            )
        entries[key] = entry
        if entry.text is not None:
            _refuse_text(full, f"{file}:{entry.line}", entry.text)
    return Source(file, package, text, entries)


def _entries(node: Any, key: str, text: str, file: str) -> Iterator[tuple[str, Entry]]:
    """The keys below a node, in the order of the file; the items of a list by their number."""
    if node.tag not in _TAGS:
        got = f"the tag {node.tag.removeprefix('tag:yaml.org,2002:')}"
        raise unreadable(f"{file}:{node.start_mark.line + 1}", got)
    if isinstance(node, yaml.ScalarNode):
        return
    is_list = isinstance(node, yaml.SequenceNode)
    named = [(i, v, v) for i, v in enumerate(node.value)] if is_list else []
    for name, start, value in named or [(name.value, name, value) for name, value in node.value]:
        full = f"{key}.{name}" if key else str(name)
        leaf = isinstance(value, yaml.ScalarNode) or not value.value or value.flow_style
        first, last = value.start_mark.index, value.end_mark.index
        match = _COMMENT.match(text, last if leaf else start.end_mark.index)
        if leaf or not is_list:
            comment, written = match.group(1) if match else "", text[first:last] if leaf else None
            yield full, Entry(start.start_mark.line + 1, comment, written)
        yield from _entries(value, full, text, file)


def _refuse_text(key: str, where: str, text: str) -> None:
    if _TREACHEROUS.fullmatch(text):
        raise Refusal(
            f"{key} is written in a way that YAML reads as another number",
            where=f"{key} ({where})",
            expected="a number without a leading zero or colon, or text in quotes",
            got=f"{text}, which YAML 1.1 reads as {yaml.safe_load(text)}",
            fix=f'write {text.lstrip("+-0_") or 0}, or "{text}" if text was meant',
        )
    refuse_resolver(key, where, text)


def refuse_resolver(key: str, where: str, text: str) -> None:
    """Refuse ``${name:...}``: what it gives depends on the machine, the clock or on chance."""
    if found := _RESOLVER.search(text):
        raise Refusal(
            f"{key} asks the resolver {found.group(1)!r} for its value",
            where=f"{key} ({where})",
            expected="a value, or ${another.key}: a recipe holds nothing of one machine or moment",
            got=text,
            fix=f"write the value itself, e.g. on the command line: {key}=VALUE",
        )


def unreadable(where: str, got: str) -> Refusal:
    """The refusal of a file that is no config, wherever it was read."""
    return Refusal(
        "a config file cannot be read",
        where=where,
        expected="a YAML mapping: lines of `key: value`, in UTF-8",
        got=got,
        fix="mend the line that is named",
    )
