"""Verify proves the claims of a recipe, and what was proven stands in the record."""

import json
import sys

import jsonschema
import pytest

from saigen.analysis.schemas import schema
from saigen.analysis.verify import _reason


def verify(project, *arguments: str, code: int = 0) -> dict:
    done = project.run(sys.executable, "-m", "saigen", "verify", "--json", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("verify-1"))
    return found


@pytest.mark.slow
def test_what_was_proven_is_entered_into_the_record_of_that_recipe_and_no_other(prepared_project):
    project = prepared_project
    for overrides in (("trainer.max_steps=2",), ("trainer.max_steps=2", "optimizer.lr=0.01")):
        project.saigen("train", *overrides)
    (claim,) = verify(project, "trainer.max_steps=4", "--only", "rerun")["claims"]
    assert claim["result"] == "held"
    assert claim["evidence"]["got"] == claim["evidence"]["expected"]
    same, other = json.loads(project.saigen("runs", "--json"))["runs"]
    assert (same["claims"], other["claims"]) == ({"rerun": "held"}, {})
    shown = json.loads(project.saigen("show", same["run"], "--json"))["claims"]["rerun"]
    assert shown["steps"] == 4
    assert shown["got"] == claim["evidence"]["got"]
    assert "1 held, in trainings of 4 steps" in project.saigen("show", same["run"])
    assert "none tried; `saigen verify` tries them" in project.saigen("show", other["run"])
    assert project.saigen("audit").startswith("intact")
    assert not (project.root / "results").exists()


def test_an_unknown_claim_is_refused_by_name(prepared_project):
    told = prepared_project.refused("verify", "--only", "moon-phase")
    assert "there is no such claim" in told
    assert "got:      moon-phase" in told


@pytest.mark.slow
def test_a_project_that_does_not_train_is_refused_with_what_it_said(prepared_project):
    path = prepared_project.root / "src/project/task.py"
    path.write_text(path.read_text().replace("total, len(outputs)", "total, len(nothing)"))
    told = prepared_project.refused("verify", "trainer.max_steps=2")
    assert "the project does not train, so there is nothing to verify" in told
    assert "name 'nothing' is not defined" in told


@pytest.mark.slow
def test_every_claim_of_the_shipped_example_is_tried_and_holds(project):
    """The recipe has one microbatch: the claim of processes is tried with four, and says so."""
    assert project.run("git", "init", "-q").returncode == 0
    done = project.run("dvc", "repro")
    assert done.returncode == 0, done.stderr
    before = (project.root / "src/project/task.py").stat().st_mtime_ns
    found = verify(project)
    results = {claim["name"]: claim["result"] for claim in found["claims"]}
    facts = {"threads": "fact", "instruction-set": "fact"}
    assert results == dict.fromkeys(results, "held") | facts
    assert len(results) == 16
    claims = {claim["name"]: claim for claim in found["claims"]}
    assert claims["processes"]["evidence"]["processes"] == 2
    assert claims["processes"]["why"] == "tried with trainer.microbatches=4 on both sides"
    assert claims["kill"]["evidence"]["continued"] == 3
    # the report and the badge are made from it, and DVC has nothing to do anew
    record = json.loads((project.root / "results/record.json").read_text())
    assert {name: claim["result"] for name, claim in record["claims"].items()} == results
    assert "14 claims held" in (project.root / "results/verify.svg").read_text()
    assert json.loads((project.root / "results/verify.json").read_text()) == found
    assert project.saigen("audit").startswith("intact")
    assert "up to date" in project.run("dvc", "repro").stdout
    assert (project.root / "src/project/task.py").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_killed_training_that_was_over_before_is_not_tried_and_not_held(project):
    """Of one step, none is left to be killed in."""
    (claim,) = verify(project, "trainer.max_steps=1", "--only", "kill", code=3)["claims"]
    assert claim["result"] == "not tried"
    assert claim["why"] == "the training ended before it could be killed"


@pytest.mark.slow
def test_a_training_of_few_steps_is_resumed_all_the_same(project):
    (claim,) = verify(project, "trainer.max_steps=4", "--only", "kill")["claims"]
    assert claim["result"] == "held"
    assert claim["evidence"]["continued"] == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("warning: drift\nrefused: no device\n  fix: wait\n", "refused: no device fix: wait"),
        ("failed: gone\nrefused: late\n", "refused: late"),
        ("Traceback\nValueError: x\n", "Traceback ValueError: x"),
        ("refused: " + "a" * 999, "refused: " + "a" * 391),
    ],
)
def test_a_training_that_does_not_end_is_told_by_its_refusal(said, reason):
    assert _reason(said) == reason
