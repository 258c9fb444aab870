"""A verdict is proven by one more run; a step that differs is replayed, operation by operation."""

import json
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from conftest import copy_project

from saigen.training.trace_file import read_trace

pytestmark = pytest.mark.slow
SHORT = ("trainer.max_steps=12", "tracking.checkpoint_every_steps=5", "tracking.checkpoints_kept=5")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with a run to compare with."""
    project = copy_project(tmp_path_factory.mktemp("confirm") / "project")
    project.saigen("prepare")
    project.saigen("train", *SHORT)
    return project


def ask(project, *arguments) -> dict:
    command = ("diff", "--json", *arguments)
    done = project.run(sys.executable, "-m", "saigen", *command)
    assert done.returncode == 1, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def patched(project, file: str, old: str, new: str):
    path = project.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)


def first(project) -> str:
    rows = json.loads(project.saigen("runs", "--json"))["runs"]
    return rows[0]["run"]


def test_two_causes_are_told_apart_and_proven(made):
    made.saigen("train", *SHORT, "model.dropout=0.2", "optimizer.lr=0.01")
    before = sorted(path.name for path in (made.root / "runs").iterdir())
    trials = ask(made, "--confirm", first(made), "last")["trials"]
    assert [(trial["suspect"], trial["result"]) for trial in trials] == [
        ("config model.dropout", "a part of it"),
        ("config optimizer.lr", "confirmed"),
    ]
    assert sorted(path.name for path in (made.root / "runs").iterdir()) == before


def test_a_change_of_the_code_is_confirmed(made):
    with patched(made, "src/project/models/mlp.py", "nn.GELU()", "nn.ReLU()"):
        made.saigen("train", *SHORT)
    (trial,) = ask(made, "--confirm", first(made), "last")["trials"]
    assert trial["result"] == "confirmed"
    assert trial["suspect"] == "code src/project/models/mlp.py:MLP.__init__"


@pytest.mark.parametrize(
    ("overrides", "operation", "module", "words"),
    [
        (("model.dropout=0.2",), "bernoulli_", "model.layers.2", "(0.9 -> 0.8)"),
        (("randomness.streams.init=3",), "uniform_", "", "while the model is built"),
        (("optimizer.lr=0.01",), "_fused_adamw", "", "at src/project/train.py:"),
    ],
)
def test_the_first_operation_that_parts_is_named(made, overrides, operation, module, words):
    made.saigen("train", *SHORT, *overrides)
    found = ask(made, "--deep", first(made), "last")["deep"]
    assert found["operation"].startswith(operation)
    assert (found["module"] or "") == module
    assert words in found["words"]


RETURN = "        return total, len"


def test_the_line_of_the_project_is_named(made):
    with patched(made, "src/project/task.py", RETURN, RETURN.replace("total", "total * 1.5")):
        made.saigen("train", *SHORT)
    found = ask(made, "--deep", first(made), "last")["deep"]
    lines = (made.root / "src/project/task.py").read_text().splitlines()
    number = 1 + lines.index("        return total, len(outputs)")
    assert found["line"] == f"src/project/task.py:{number}"


def test_a_later_step_is_replayed_from_the_nearest_checkpoint(made):
    """A loss that the undisturbed run never has before step 7 is scaled."""
    losses = 32 * read_trace(made.root / "runs" / first(made))["loss"]
    low = int(np.argmin(losses[7:])) + 7
    assert losses[low] < losses[:low].min()
    between = float(losses[low] + losses[:low].min()) / 2
    later = f"        total = total * (1.5 if float(total) < {between!r} else 1.0)\n"
    with patched(made, "src/project/task.py", RETURN, later + RETURN):
        made.saigen("train", *SHORT)
        text = (made.root / "src/project/task.py").read_text()
    found = ask(made, "--deep", first(made), "last")
    assert found["trace"]["step"] == found["deep"]["step"] == low
    number = 1 + text.splitlines().index(later.rstrip())
    assert found["deep"]["line"] == f"src/project/task.py:{number}"
    assert f"(replayed from step {5 if low < 10 else 10})" in found["deep"]["words"]
