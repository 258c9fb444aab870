"""A run is made again in its own environment, made from its own lock."""

import json
import re
import shutil

import jsonschema
import pytest
from conftest import ROOT, Project, copy_project

from saigen.analysis.schemas import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LEFT_OUT = "types-tqdm"  # nothing that a run imports


def git(project: Project, *arguments: str) -> None:
    names = {f"GIT_{a}_{b}": "a@b" for a in ("AUTHOR", "COMMITTER") for b in ("NAME", "EMAIL")}
    done = project.run("git", *arguments, env=names)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A clone whose lock has one package fewer, with a run made in the environment of that lock."""
    project = copy_project(tmp_path_factory.mktemp("installed") / "project")
    shutil.copytree(ROOT / ".dvc/snapshots", project.root / ".dvc/snapshots")
    for name in (".gitignore", ".dvc/.gitignore"):
        shutil.copyfile(ROOT / name, project.root / name)
    lock = project.root / "docker/lock-cpu.txt"
    text = re.sub(rf"^{LEFT_OUT}==(.*\n)(    .*\n)*", "", lock.read_text(), flags=re.MULTILINE)
    lock.write_text(text)
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "Begin")
    done = project.run("bash", "docker/install.sh")
    assert done.returncode == 0, done.stderr
    for verb in (("prepare",), ("train", "debug=two_steps")):
        done = project.run(str(project.root / ".venv/bin/python"), "-m", "saigen", *verb)
        assert done.returncode == 0, done.stderr
    return project


def rerun(project: Project, *arguments: str):
    return project.run("python", "-m", "saigen", "rerun", *arguments)


def test_the_environment_is_made_from_the_runs_lock_where_it_differs(made):
    done = rerun(made)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical: ")
    assert f"environment: {LEFT_OUT} missing -> " in done.stderr
    assert "; making the run's own from its lock" in done.stderr
    listed = made.saigen("runs", "--json")
    assert '"made again, identical (2nd time)"' in listed


def test_here_trains_in_the_environment_at_hand_and_the_diff_names_what_differs(made):
    done = rerun(made, "--here", "--json")
    assert done.returncode == 0, done.stderr
    assert "training in this one all the same" in done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("diff-1"))
    assert f"packages.{LEFT_OUT}" in [difference["name"] for difference in found["differences"]]


def refused_with(made, copy, recorded, other):
    """What a rerun says of a copy of the run whose record tells of another environment."""
    shutil.copytree(next((made.root / "runs").glob("*-1")), copy)
    record = copy / "record.json"
    record.write_text(re.sub(recorded, other, record.read_text()))
    return made.refused("rerun", str(copy))


def test_a_python_that_cannot_be_had_is_refused_by_name_before_training(made, tmp_path):
    told = refused_with(made, tmp_path / "run", r'"python": "[^"]*"', '"python": "3.11.99"')
    assert "where:    python 3.11.99 -> " in told
    assert "no Python 3.11.99 was found" in told


def test_an_environment_that_no_lock_gives_is_refused_by_name_before_training(made, tmp_path):
    told = refused_with(made, tmp_path / "run", r'"numpy": "[^"]*"', '"numpy": "0.0.1"')
    assert "the environment of the run cannot be made any more" in told
    assert "numpy 0.0.1 -> " in told
    assert "its lock gives another one: numpy 0.0.1 -> " in told
