"""The theorem: every line of every shipped file is needed, and no other line is taken."""

import random
from collections.abc import Iterator

import pytest
import yaml
from conf_project import ROOT, Conf

from saigen.config.sources import Source, read_sources
from saigen.errors import Refusal

SOURCES = {n: s for n, s in read_sources(ROOT / "conf").items() if not n.startswith("local/")}


def pick(name: str) -> tuple[str, ...]:
    """The override that makes a file part of the composition."""
    return () if name == "config" else (f"{name.rpartition('/')[0]}={name.rpartition('/')[2]}",)


def removals() -> Iterator[tuple[str, int, str]]:
    """Every leaf of every shipped file: its file, its line, and its name there."""
    for name, source in SOURCES.items():
        for key, entry in source.leaves.items():
            # an element of a list in brackets has no line of its own
            if source.text.splitlines()[entry.line - 1].strip().startswith(("- ", _last(key))):
                yield name, entry.line, key


def additions() -> Iterator[tuple[str, int, str]]:
    """Every mapping of every shipped file, by the line of its first key and its indent."""
    for name, source in SOURCES.items():
        mappings = {key.rpartition(".")[0] for key in source.entries if not _is_default(key)}
        for parent in sorted(mappings):
            first = next(
                k for k in source.entries if k.rpartition(".")[0] == parent and not _is_default(k)
            )
            yield name, source.entries[first].line, parent


def _is_default(key: str) -> bool:
    return key.startswith("defaults.")


def _last(key: str) -> str:
    return f"{key.rpartition('.')[2]}:"


REMOVALS, ADDITIONS = list(removals()), list(additions())
SAMPLE = random.Random(20260101)


def changed(conf: Conf, name: str, text: str) -> Refusal | None:
    """How a composition with this text in place of the file is refused."""
    before = conf.read(f"{name}.yaml")
    conf.write(f"{name}.yaml", text)
    try:
        conf.compose(*pick(name))
    except Refusal as refusal:
        return refusal
    finally:
        conf.write(f"{name}.yaml", before)
    return None


def remove(conf: Conf, name: str, line: int, key: str) -> None:
    lines = conf.read(f"{name}.yaml").splitlines(keepends=True)
    refusal = changed(conf, name, "".join(lines[: line - 1] + lines[line:]))
    where = f"conf/{name}.yaml:{line} {lines[line - 1].strip()}"
    assert refusal is not None, f"{where} can be removed unnoticed"
    word = key.removeprefix("defaults.").lstrip("0123456789.").removeprefix("override /")
    word = SOURCES[name].leaves[key].text if not word else word.rpartition(".")[2]
    assert word in str(refusal), f"{where}\n{refusal}"


def add(conf: Conf, name: str, line: int, parent: str) -> None:
    lines = conf.read(f"{name}.yaml").splitlines(keepends=True)
    indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
    new = f"{indent}zyx_unknown: 1\n"
    refusal = changed(conf, name, "".join([*lines[: line - 1], new, *lines[line - 1 :]]))
    where = f"conf/{name}.yaml:{line} below {parent or 'the top'}"
    assert refusal is not None, f"an unknown key is taken at {where}"
    assert "zyx_unknown" in refusal.where, f"{where}\n{refusal}"
    assert f"conf/{name}.yaml:{line}" in refusal.where, f"{where}\n{refusal}"


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Conf:
    return Conf(tmp_path_factory.mktemp("lines"))


def test_the_enumeration_reaches_every_leaf_that_yaml_itself_finds() -> None:
    for name, source in SOURCES.items():
        found = {(key, line) for file, line, key in REMOVALS if file == name}
        assert {key for key, _ in found} >= set(_plain_leaves(source))


def _plain_leaves(source: Source) -> Iterator[str]:
    def walk(value: object, key: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name, item in value.items():
                yield from walk(item, f"{key}.{name}" if key else str(name))
        elif not isinstance(value, list):
            yield key

    yield from (k for k in walk(yaml.safe_load(source.text), "") if not _is_default(k))


@pytest.mark.parametrize(("name", "line", "key"), SAMPLE.sample(REMOVALS, 8))
def test_a_removed_line_is_missed_by_name(conf: Conf, name: str, line: int, key: str) -> None:
    remove(conf, name, line, key)


@pytest.mark.parametrize(("name", "line", "parent"), SAMPLE.sample(ADDITIONS, 4))
def test_an_unknown_key_is_refused(conf: Conf, name: str, line: int, parent: str) -> None:
    add(conf, name, line, parent)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_line_is_missed_by_name_and_an_unknown_key_refused(conf: Conf, name: str) -> None:
    for file, line, key in REMOVALS:
        if file == name:
            remove(conf, name, line, key)
    for file, line, parent in ADDITIONS:
        if file == name:
            add(conf, name, line, parent)
