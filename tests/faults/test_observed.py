"""The fault bench, the undeclared: what differs outside of the recipe is named, with its line."""

import json

import pytest

from faults.undeclared import UNDECLARED

STEPS = ("trainer.max_steps=2",)
QUICK = {
    "a variable read in the model's constructor",
    "a helper outside src loaded by importlib",
    "a warm start from a model that happens to lie there",
}


def plant(fault, project):
    """Runs A and B of a planted input; what was printed for B."""
    for patch in fault.patches:
        project.patch(*patch)
    train = ["train", *STEPS, *fault.overrides]
    fault.before(project.root)
    project.saigen(*train)
    fault.between(project.root)
    return project.verb(*train, env=fault.environment)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=f.name, marks=() if f.name in QUICK else pytest.mark.slow)
        for f in UNDECLARED
    ],
)
def test_diff_names_the_undeclared_input_and_the_line(fault, forked, score):
    copy = forked()
    code, said = plant(fault, copy)
    assert "VIOLATION: the same recipe gave another outcome in" in said
    assert code == 1
    found = copy.diff()
    sentence = found["verdict"]["sentence"]
    (difference,) = (
        d for d in found["differences"] if f"{d['layer']} {d['name']}" == fault.suspect
    )
    file, _, number = difference["reason"].partition(" at ")[2].partition(",")[0].partition(":")
    line = (copy.root / file).read_text().splitlines()[int(number) - 1]
    score(
        detected=not found["same_outcome"],
        layer=found["verdict"]["suspects"][:1] == [fault.suspect],
        name=fault.line in line,
        told=found["verdict"],
    )
    assert sentence.startswith("VIOLATION: nothing in the recipe differs, but what it does not")
    assert sentence in said


@pytest.mark.parametrize(
    "experiment",
    [
        (),
        *(
            pytest.param((f"experiment={name}",), marks=pytest.mark.slow)
            for name in ("mlp_sgd", "cnn_augmented", "transformer_text")
        ),
        pytest.param(("hardware.loader_workers=1",), marks=pytest.mark.slow),
        pytest.param(("hardware.processes=2", "trainer.microbatches=2"), marks=pytest.mark.slow),
    ],
)
def test_a_clean_run_of_a_shipped_experiment_observes_nothing(experiment, forked):
    copy = forked()
    copy.saigen("prepare", *experiment)
    copy.saigen("train", *STEPS, *experiment)
    record = json.loads(copy.saigen("show", "last", "--json"))
    assert record["metadata"]["observed"] == []


@pytest.mark.slow
def test_a_cold_start_observes_nothing(prepared_project):
    prepared_project.saigen("train", *STEPS, cold=True)
    record = json.loads(prepared_project.saigen("show", "last", "--json"))
    assert record["metadata"]["observed"] == []
