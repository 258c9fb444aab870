"""The fault bench: each planted cause is found, in the right layer, and called by its name."""

import json
import shutil
import sys

import pytest
from conftest import Project, copy_project

from faults.changed import CHANGED, EDITED, apply
from faults.planted import PLANTED
from saigen.digest import digest_tree, digest_value

SHORT = ("trainer.max_steps=40",)
FAST = {"a data file with one changed label", "another activation"}


def named(faults, fast=()):
    return [
        pytest.param(f, id=f.name, marks=() if f.name in fast else pytest.mark.faults)
        for f in faults
    ]


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """A project with run A, which all faults share."""
    project = copy_project(tmp_path_factory.mktemp("faults") / "project")
    project.saigen("prepare")
    project.saigen("train", *SHORT)
    return project


@pytest.fixture
def copy(baseline, tmp_path):
    shutil.copytree(baseline.root, tmp_path / "project")
    return Project(tmp_path / "project")


def diff(project: Project, a: str = "last~1", b: str = "last") -> dict:
    done = project.run(sys.executable, "-m", "saigen", "diff", "--json", a, b)
    assert done.returncode == 1, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("fault", named(CHANGED, FAST))
def test_diff_names_the_layer_and_the_cause(fault, copy):
    apply(fault, copy.root)
    copy.saigen("prepare", *SHORT, *fault.overrides)
    copy.saigen("train", *SHORT, *fault.overrides, env=fault.environment)
    found = diff(copy)
    layer, _, name = found["verdict"]["suspects"][0].partition(" ")
    assert layer == fault.layer
    assert fault.cause in name
    if fault.place:
        assert found["trace"]["place"] == fault.place
    if fault.says:
        text = copy.run(sys.executable, "-m", "saigen", "diff", "last~1", "last").stdout
        assert fault.says in text


@pytest.mark.parametrize("fault", [pytest.param(f, id=f.name) for f in EDITED])
def test_diff_names_what_differs_between_two_machines(fault, copy):
    """The other machine is not at hand: its record is run A's with another environment."""
    folder = next((copy.root / "runs").glob("*-1"))
    other = folder.with_name("ffffffffffff-1")
    shutil.copytree(folder, other)
    record = json.loads((other / "record.json").read_text())
    layer = record["recipe"]["layers"]["environment"]
    place = layer
    for key in fault.key[:-1]:
        place = place[key]
    place[fault.key[-1]] = fault.value
    layer["digest"] = digest_value({k: v for k, v in layer.items() if k != "digest"})
    layers = record["recipe"]["layers"]
    record["recipe"]["digest"] = digest_tree({n: entry["digest"] for n, entry in layers.items()})
    record["run"] = other.name
    record["outcome"]["weights"]["sha256"] = record["outcome"]["digest"] = "e" * 64
    (other / "record.json").write_text(json.dumps(record))
    found = diff(copy, str(folder), str(other))
    assert found["verdict"]["suspects"][0] == f"environment {fault.cause}"


@pytest.mark.faults
@pytest.mark.parametrize("fault", named(PLANTED))
def test_verify_breaks_the_claim_and_names_the_line(fault, project):
    path = project.root / fault.file
    text = path.read_text()
    assert fault.old in text, f"{fault.name}: {fault.file} has changed"
    path.write_text(text.replace(fault.old, fault.new, 1))
    command = ("verify", "--json", "--only", fault.claim, *fault.overrides)
    done = project.run(sys.executable, "-m", "saigen", *command)
    assert done.returncode == 1, done.stdout + done.stderr
    (claim,) = json.loads(done.stdout)["claims"]
    assert claim["result"] == "broken"
    assert fault.line in claim["place"]["text"]
    assert claim["place"]["file"] == fault.file


def test_a_comment_changes_the_code_layer_and_is_said_to_change_nothing(copy):
    path = copy.root / "src/project/task.py"
    path.write_text("# A remark.\n" + path.read_text())
    copy.saigen("train", *SHORT)
    done = copy.run(sys.executable, "-m", "saigen", "diff", "--json", "last~1", "last")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    (difference,) = [d for d in found["differences"] if d["layer"] == "code"]
    assert difference["kind"] == "cannot change anything"
    assert difference["reason"] == "only comments, docstrings or layout differ"


def test_the_bench_holds_more_than_forty_causes():
    names = [fault.name for fault in (*CHANGED, *EDITED, *PLANTED)]
    assert len(set(names)) == len(names)
    assert len(names) > 40
