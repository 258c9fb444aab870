"""What holds for any project: its data, preparation, task, model, loop and every config of conf/.

Nothing in here knows what src/project and conf/ are; so it stays true when they are replaced.
"""

import csv
import json
import re
import shutil

import pytest
import yaml
from conftest import ROOT, Project, copy_project
from processor import needs

CONF = ROOT / "conf"
GROUPS = ("data", "prepare", "task", "model", "optimizer", "scheduler", "trainer",
          "reproducibility", "experiment", "debug")  # fmt: skip
NEEDS = {"reproducibility=portable": needs("avx2")}
HERE = ("hardware=cpu",)  # whatever conf/ says: these tests need no GPU
OVERRIDE = re.compile(r"^  - override /(\w+): (\S+)", re.MULTILINE)
LINE = re.compile(r"^  - (\w+): (\S+)", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not list(CONF.glob("data/*.yaml")),
    reason="there is nothing to train yet: `saigen init-data FILE` makes a first data set",
)


def choices() -> list[str]:
    """Each option that a person can pick by itself, and each experiment, which picks several. What
    an experiment picks may fit nothing else, and is tried in it.
    """
    default = set(LINE.findall((CONF / "config.yaml").read_text()))
    within = {
        picked
        for path in CONF.glob("experiment/*.yaml")
        for picked in OVERRIDE.findall(path.read_text())
    }
    found = {(group, path.stem) for group in GROUPS for path in CONF.glob(f"{group}/*.yaml")}
    return [
        "trainer.max_steps=2",
        *(f"{group}={name}" for group, name in sorted(found - within - default)),
    ]


@pytest.mark.parametrize("choice", [pytest.param(c, marks=NEEDS.get(c, ())) for c in choices()])
def test_every_config_trains_two_steps(choice, prepared_project):
    text = prepared_project.saigen("train", *dict.fromkeys((choice, *HERE, "trainer.max_steps=2")))
    assert "made for the first time" in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory, _prepared_once) -> tuple[Project, dict]:
    """A run of two steps, and its record."""
    project = copy_project(tmp_path_factory.mktemp("trained") / "project")
    shutil.copytree(_prepared_once, project.root / "prepared")
    project.saigen("train", *HERE, "trainer.max_steps=2")
    (path,) = project.root.glob("runs/*/record.json")
    return project, json.loads(path.read_text())


def test_the_preparation_gives_the_same_arrays_wherever_it_runs(prepared_project):
    manifest = prepared_project.root / "prepared/manifest.json"
    before = manifest.read_bytes()
    circumstances = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LANG": "C"}
    prepared_project.saigen("prepare", *HERE, env=circumstances)
    assert manifest.read_bytes() == before


def test_every_split_has_records_and_no_record_is_in_two(prepared_project):
    prepared = prepared_project.root / "prepared"
    splits = [set((prepared / f"{split}/ids.txt").read_text().splitlines())
              for split in ("train", "validation", "test")]  # fmt: skip
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits))


def test_the_metric_that_picks_the_weights_and_the_one_compared_are_measured(trained):
    project, of_run = trained
    config = yaml.safe_load((project.root / "runs" / of_run["run"] / "config.yaml").read_text())
    measured = of_run["outcome"]["metrics"].keys()
    assert {config["trainer"]["monitor"], config["comparison"]["metric"]} <= measured


def test_predict_equals_the_record_bit_for_bit(trained):
    project, of_run = trained
    config = yaml.safe_load((project.root / "runs" / of_run["run"] / "config.yaml").read_text())
    model, snapshot = f"runs/{of_run['run']}/model", config["data"]["snapshot"]
    recorded = (project.root / "runs" / of_run["run"] / "predictions.csv").read_text().splitlines()
    told = project.saigen("predict", model, snapshot).splitlines()
    assert told[0] == recorded[0]
    ids = [next(csv.reader([row]))[0] for row in recorded[1:]]
    assert ids
    predicted = {next(csv.reader([row]))[0]: row for row in told[1:]}
    assert [predicted[of] for of in ids] == recorded[1:]


def test_a_run_that_was_killed_ends_in_the_same_bits(lab):
    overrides = (*HERE, "trainer.max_steps=40", "tracking.checkpoint_every_steps=5",
                 "tracking.trace_flush_steps=1")  # fmt: skip
    whole = lab.train(overrides)
    lab.kill(overrides, lambda: lab.steps() >= 12)
    killed = lab.train(overrides)
    assert killed["run"] != whole["run"]
    assert killed["metadata"]["training"]["steps"] < 40
    assert killed["outcome"]["digest"] == whole["outcome"]["digest"]
