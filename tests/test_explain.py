"""`saigen compose --explain KEY` answers for every key that the template ships."""

import os
import re
import subprocess
import sys
from itertools import chain

import pytest
from conf_project import ROOT, Conf

from saigen.config.compose import compose
from saigen.config.explain import explain, tell
from saigen.config.keys import leaves
from saigen.config.messages import schema_fields
from saigen.config.origins import Origins
from saigen.config.overrides import options
from saigen.config.sources import read_sources

SOURCES = read_sources(ROOT / "conf")
PICKED = {entry.text for key, entry in SOURCES["config"].entries.items() if "defaults." in key}
PICKS = sorted(
    f"{group}={option}"
    for group, found in options(SOURCES).items()
    for option in found
    if option not in PICKED and group != "local"
)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_leaf_that_is_shipped_says_what_it_means(name: str) -> None:
    silent = [
        f"{SOURCES[name].file}:{entry.line} {key}"
        for key, entry in SOURCES[name].leaves.items()
        if not entry.comment
        and not re.search(r"(^|\.)\d+$", key)
        and not key.startswith("defaults.")
    ]
    assert silent == []


@pytest.mark.parametrize("pick", ["model=mlp", *PICKS])
def test_every_leaf_has_a_type_a_meaning_and_a_line(pick: str) -> None:
    composition = compose((pick,), ROOT / "conf")
    origins = Origins(ROOT / "conf", SOURCES, composition.overrides)
    for key, value in leaves(composition.values):
        if key.rpartition(".")[2].isdigit():
            continue
        told = tell(key, composition, origins, ROOT)
        assert told.meaning, key
        assert told.type != "any value", key
        file, _, line = told.set_by.partition(":")
        text = (ROOT / file).read_text().splitlines()[int(line) - 1]
        assert text.strip().startswith(f"{key.rpartition('.')[2]}:"), key
        if not told.through and not isinstance(value, list):
            assert told.value.strip("'\"") in text, key


def test_the_explanation_names_file_line_and_what_was_there_before() -> None:
    told = explain("trainer.max_epochs", ("experiment=cnn_augmented",), ROOT / "conf")
    assert str(told).splitlines()[0] == "trainer.max_epochs: 20"
    assert told.set_by.startswith("conf/experiment/cnn_augmented.yaml:")
    assert told.before_that == "conf/trainer/default.yaml:1 (40)"
    assert told.range == "at least 1"
    assert told.unit == "passes over the training split"
    assert told.overrides == "none"


def test_the_explanation_names_overrides_also_those_of_what_a_key_refers_to() -> None:
    overrides = ("randomness.seed=7", "optimizer.lr=0.1")
    told = explain("randomness.streams.order", overrides, ROOT / "conf")
    assert told.value == "7"
    assert told.meaning == "which sample stands at which step"
    assert told.through == "randomness.seed (command line: randomness.seed=7)"
    assert told.overrides == "randomness.seed=7"
    told = explain("optimizer.lr", overrides, ROOT / "conf")
    assert told.set_by == "command line: optimizer.lr=0.1"
    assert told.read_by == "torch.optim.AdamW"


def test_a_group_is_explained_by_its_options() -> None:
    told = explain("model", (), ROOT / "conf")
    assert told.options == "cnn, mlp, transformer"
    assert told.meaning == "the network"


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path) -> None:
    with pytest.raises(Exception, match="there is no key lr") as caught:
        explain("lr", (), Conf(tmp_path).folder)
    assert caught.value.fix == "ask for optimizer.lr"


def test_no_schema_field_lacks_a_meaning() -> None:
    assert [key for key, field in schema_fields() if not field.description] == []


def test_every_key_of_the_schema_is_read_somewhere() -> None:
    code = list(chain((ROOT / "src").rglob("*.py")))
    text = "\n".join(file.read_text() for file in code if file.name != "schema.py")
    dead = [key for key, _ in schema_fields() if f".{key.rpartition('.')[2]}" not in text]
    assert dead == []


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "saigen", "compose"]
    read, write = os.pipe()
    os.close(read)  # as `| head` does
    done = subprocess.run(
        command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
