"""Loops of a project's own give the same bits, killed and resumed, over any number of processes."""

import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

LOOPS = Path(__file__).parent / "loops/loops.py"
STEPS = 60
SHORT = (
    "trainer.batch_size=24",
    "trainer.microbatches=6",
    f"trainer.max_steps={STEPS}",
    "trainer.eval_batch_size=128",
    "trainer.keep_weights=last",
    "tracking.checkpoint_every_steps=5",
    "tracking.trace_flush_steps=4",
)
TENSORS = "trainer.parameter_layout=tensors"
GROUPS = [
    {"names": ["*.bias"], "modules": ["torch.nn.LayerNorm", "torch.nn.Embedding"],
     "frozen": False, "options": {"weight_decay": 0.0, "lr": 0.002}},
]  # fmt: skip
LBFGS = {
    "_target_": "torch.optim.LBFGS", "lr": 0.1, "max_iter": 3, "max_eval": None,
    "tolerance_grad": 1e-7, "tolerance_change": 1e-9, "history_size": 5, "line_search_fn": None,
}  # fmt: skip
CASES = {
    "gan": ("trainer.loop=project.loops.gan", "model=gan", "task=telling"),
    "gan_with_tensors": ("trainer.loop=project.loops.gan", "model=gan", "task=telling", TENSORS),
    "plateau": ("trainer.loop=project.loops.plateau", "trainer.validate_every_epochs=1"),
    "by_epoch": ("trainer.loop=project.loops.by_epoch", "trainer.max_steps=110"),
    "averaged": ("trainer.loop=project.loops.averaged", "model=cnn", "model.batch_norm=true"),
    "by_closure": ("trainer.loop=project.loops.by_closure", "optimizer=lbfgs", TENSORS),
    "counting": ("trainer.loop=project.loops.counting",),
    "accumulation": ("trainer.microbatches=12", "optimizer=sgd"),
    "groups": (
        "experiment=transformer_text", "model.width=32", "model.hidden=64", "optimizer=grouped",
        "scheduler.warmup_steps=20",
    ),
}  # fmt: skip
QUICK = ("gan",)


def bring(root: Path) -> None:
    """Put the loops into a project, and what YAML says of their models and optimizers."""
    shutil.copyfile(LOOPS, root / "src/project/loops.py")
    write = lambda name, values: (root / f"conf/{name}.yaml").write_text(json.dumps(values))  # noqa: E731
    write("model/gan", {"_target_": "project.loops.Gan", "noise": 4, "width": 16})
    write("task/telling", {"_target_": "project.loops.Telling", "label_smoothing": 0.0})
    write("optimizer/lbfgs", LBFGS)
    text = (root / "conf/optimizer/adamw.yaml").read_text()
    (root / "conf/optimizer/grouped.yaml").write_text(
        f"{text}parameter_groups: {json.dumps(GROUPS)}\n"
    )


@pytest.fixture(scope="module")
def lab_of(request):
    """The lab in which a case's data is prepared, with the loops in its project."""
    name = "project.loops"
    spec = importlib.util.spec_from_file_location(name, LOOPS)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])  # composing looks at signatures in this process

    def of(case):
        lab = request.getfixturevalue("text_lab" if case == "groups" else "lab")
        if not (lab.project.root / "src/project/loops.py").exists():
            bring(lab.project.root)
        return lab

    yield of
    sys.modules.pop(name)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_it_gives_the_same_bits_killed_and_over_processes(lab_of, case):
    lab, overrides = lab_of(case), (*SHORT, *CASES[case])
    whole = lab.train(overrides)
    assert whole["complete"]
    for processes in (2, 3):
        steps = 0
        while not steps:  # else the kill came too late
            lab.interrupt(overrides, after=random.randint(12, 30), rank=0, processes=processes)
            steps = lab.steps()
        again = lab.train(overrides, processes=processes)
        assert again["metadata"]["training"]["steps"] < whole["outcome"]["trace"]["steps"]
        assert again["outcome"] == whole["outcome"]


FORGOTTEN = {  # what is taken out, and the line that verify names
    "gan": (("critic=critic, maker=maker", "critic=critic"), "maker.step()"),
    "plateau": ((", scheduler=scheduler", ""), "scheduler.step("),
    "averaged": ((", ema=ema", ""), "ema.update_parameters(model)"),
    "counting": (
        ('{"mean": self.mean, "bad": self.bad}', '{"mean": 2.0, "bad": 1}'),
        "self.mean =",
    ),
    "by_closure": (
        (
            "    for step in run.steps():\n",
            "    shrink = 1.0\n    for step in run.steps():\n        shrink = 0.9 * shrink\n"
            "        model.layers[0].weight.data.mul_(shrink)\n",
        ),
        "shrink",  # where it changes, or where it acts
    ),
}
SAMPLE = {"plateau", "counting"}  # in `make test-full`, the others in `make test-faults`


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=pytest.mark.slow if c in SAMPLE else pytest.mark.faults)
        for c in FORGOTTEN
    ],
)
def test_verify_names_the_line_of_a_state_that_is_not_kept(prepared_project, case):
    project, ((old, new), line) = prepared_project, FORGOTTEN[case]
    bring(project.root)
    path = project.root / "src/project/loops.py"
    before, definition, rest = path.read_text().rpartition(f"def {case}(")
    if case == "counting":
        before, definition, rest = path.read_text().rpartition("class Patience")
    assert old in rest
    path.write_text(before + definition + rest.replace(old, new, 1))
    # several validations in the steps that verify takes
    short = (text.replace("batch_size=24", "batch_size=96") for text in SHORT)
    arguments = ("verify", "--json", "--only", "kill", *short, *CASES[case])
    done = project.run(sys.executable, "-m", "saigen", *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    (claim,) = json.loads(done.stdout)["claims"]
    assert claim["result"] == "broken"
    assert line in claim["location"]["text"], claim
