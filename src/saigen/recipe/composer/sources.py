"""The YAML under conf/ as written: every key's line and comment, and what a file may not contain.

Hydra sees values only. This reads the same files as text, so that a refusal can name the line,
`--explain` can show the comment, and what YAML or Hydra would accept in silence is refused:
a key that stands twice, a number that YAML 1.1 reads as another one, a resolver.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from saigen.refusal import Refusal

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PACKAGE = re.compile(r"^#\s*@package\s+(\S+)\s*$", re.MULTILINE)
_COMMENT = re.compile(r"[\s,:]*#\s*(.*)$")
# YAML 1.1 reads 010 as 8 and 1:30 as 90: nobody who wrote it meant that.
_TREACHEROUS = re.compile(r"[-+]?(0[0-9_]+|[0-9]+(:[0-9]{1,2})+)")
# What a config is made of; a tag such as !!python/name asks for code.
_TAGS = {
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")
}
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")


@dataclass(frozen=True)
class Entry:
    """One key of a file: where it stands, what is said about it, and its text if it is a leaf."""

    line: int
    comment: str
    text: str | None


@dataclass
class Source:
    """One YAML file. `entries` has each full key as it stands inside the file."""

    file: str
    package: str
    text: str
    entries: dict[str, Entry] = field(default_factory=dict)

    def key(self, inside: str, package: str | None = None) -> str:
        """The full key, in the composed config, of a key inside this file."""
        package = self.package if package is None else package
        return ".".join(part for part in (package, inside) if part)

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
    return {
        path.relative_to(conf).with_suffix("").as_posix(): _read(path, conf)
        for path in sorted(conf.rglob("[!.]*.yaml"))  # not an editor's .#name.yaml
    }


def _read(path: Path, conf: Path) -> Source:
    name = path.relative_to(conf).as_posix()
    return read_text(path, f"{conf.name}/{name}", Path(name).parent.as_posix().strip("."))


def read_text(path: Path, file: str, group: str) -> Source:
    """One YAML file; `file` is what messages call it. Raises Refusal, as `read_sources` does."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_LOADER)
    except UnicodeDecodeError as error:
        raise _unreadable(file, str(error)) from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _unreadable(f"{file}{line}", error.problem or str(error)) from error
    source = Source(file, _package(group, text), text)
    if node is None:
        return source
    if not isinstance(node, yaml.MappingNode):
        raise _unreadable(f"{file}:1", f"a {type(node).__name__}")
    for key, entry in _entries(node, "", text.splitlines(), file):
        source.entries[key] = entry
        if entry.text is not None:
            _refuse_text(source.key(key), f"{file}:{entry.line}", entry.text)
    return source


def _package(group: str, text: str) -> str:
    header = _PACKAGE.search(text)
    if header is None or header.group(1) == "_group_":
        return group.replace("/", ".")
    return "" if header.group(1) == "_global_" else header.group(1)


def _entries(node: yaml.Node, key: str, lines: list[str], file: str) -> Iterator[tuple[str, Entry]]:
    """The keys below a node, in the order of the file."""
    if node.tag not in _TAGS:
        got = f"the tag {node.tag.removeprefix('tag:yaml.org,2002:')}"
        raise _unreadable(f"{file}:{node.start_mark.line + 1}", got)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line
            full = f"{key}.{name.value}" if key else str(name.value)
            if full in seen:
                raise _twice(full, f"{file}:{line + 1}", seen[full])
            seen[full] = line + 1
            leaf = isinstance(value, yaml.ScalarNode) or not value.value or value.flow_style
            mark = value.end_mark if leaf else name.end_mark
            rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
            found = _COMMENT.match(rest)
            text = _written(value, lines) if leaf else None
            yield full, Entry(line + 1, found.group(1) if found else "", text)
            yield from _entries(value, full, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            full = f"{key}.{index}"
            if isinstance(item, yaml.ScalarNode):
                yield full, Entry(item.start_mark.line + 1, "", _written(item, lines))
            yield from _entries(item, full, lines, file)


def _written(value: yaml.Node, lines: list[str]) -> str:
    """The text of a value as it stands in the file, quotes included."""
    first, last = value.start_mark, value.end_mark
    if first.line == last.line:
        return lines[first.line][first.column : last.column] if first.line < len(lines) else ""
    return "\n".join([lines[first.line][first.column :], *lines[first.line + 1 : last.line + 1]])


def _refuse_text(key: str, where: str, text: str) -> None:
    if _TREACHEROUS.fullmatch(text):
        value = yaml.safe_load(text)
        raise Refusal(
            f"{key} is written in a way that YAML reads as another number",
            where=f"{key} ({where})",
            expected="a number without a leading zero or colon, or text in quotes",
            got=f"{text}, which YAML 1.1 reads as {value}",
            fix=f'write {text.lstrip("+-0_") or 0}, or "{text}" if text was meant',
        )
    if not key.startswith("hydra."):
        refuse_resolver(key, where, text)


def refuse_resolver(key: str, where: str, text: str) -> None:
    """Refuse ``${name:...}``: what it gives depends on the machine, the clock or on chance."""
    found = _RESOLVER.search(text)
    if found is None:
        return
    raise Refusal(
        f"{key} asks the resolver {found.group(1)!r} for its value",
        where=f"{key} ({where})",
        expected="a value, or ${another.key}: a recipe holds nothing of one machine or moment",
        got=text,
        fix=f"write the value itself, e.g. on the command line: {key}=VALUE",
    )


def _unreadable(where: str, got: str) -> Refusal:
    return Refusal(
        "a config file cannot be read",
        where=where,
        expected="a YAML mapping: lines of `key: value`, in UTF-8",
        got=got,
        fix="mend the line that is named",
    )


def _twice(key: str, where: str, first: int) -> Refusal:
    return Refusal(
        f"{key} stands twice in one file",
        where=f"{key} ({where})",
        expected="each key once",
        got=f"also on line {first}; YAML would keep the last",
        fix="delete one of the two lines",
    )
