"""float16 with a scaler that resumes; parts that thaw; parameters that no loss uses."""

import importlib.util
import random
import sys

import pytest
import torch

from saigen.config.schema import GradScaler
from saigen.errors import Failure
from saigen.training.loss_scale import LossScale

PIECES = '''"""Models and a loop of odd kinds."""

import torch
from torch import nn

from project.models.mlp import MLP


class Idle(MLP):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.unused = nn.Linear(3, 3)


def idle(*, inputs: int, hidden: int, outputs: int, dropout: float):
    return Idle(inputs=inputs, hidden=hidden, outputs=outputs, dropout=dropout)


class Synchronous(nn.Module):
    def __init__(self, *, inputs: int, hidden: int, outputs: int, dropout: float):
        super().__init__()
        self.norm = nn.SyncBatchNorm(inputs)


class Thawing(MLP):
    """Thaws a layer by itself, which nobody trains."""

    def __init__(self, *, inputs: int, hidden: int, outputs: int, dropout: float):
        super().__init__(inputs=inputs, hidden=hidden, outputs=outputs, dropout=dropout)
        self.register_buffer("calls", torch.zeros(()))
        next(self.parameters()).requires_grad_(False)

    def forward(self, inputs):
        if self.training:
            self.calls += 1
        if self.calls > 7:
            next(self.parameters()).requires_grad_(True)
        return super().forward(inputs)
'''
SHORT = (
    "trainer.batch_size=24", "trainer.microbatches=6", "trainer.max_steps=40",
    "trainer.eval_batch_size=128", "tracking.checkpoint_every_steps=5",
    "tracking.trace_flush_steps=4",
)  # fmt: skip
# overflows in the first steps, and grows again
HALF = (
    "trainer.precision=float16",
    "trainer.grad_scaler={init_scale: 33554432.0, growth_factor: 2.0, backoff_factor: 0.5, "
    "growth_interval: 5}",
)
THAWED = (
    "+optimizer.parameter_groups=[{names: ['layers.0.*'], modules: [], frozen: 20, "
    "options: {weight_decay: 0.5}}]"
)
CASES = {
    "float16": HALF,
    "thawed": (THAWED,),
    "thawed_tensors": (THAWED, "trainer.parameter_layout=tensors"),
    "thawed_float16": (THAWED, *HALF),
}


@pytest.fixture(scope="module")
def place(lab):
    path = lab.project.root / "src/project/odd_models.py"
    path.write_text(PIECES)
    spec = importlib.util.spec_from_file_location("project.odd_models", path)
    sys.modules["project.odd_models"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["project.odd_models"])
    yield lab
    sys.modules.pop("project.odd_models")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_outcome_over_processes_and_kills(place, case):
    overrides = (*SHORT, *CASES[case])
    whole = place.train(overrides)
    steps = 0
    while not steps:  # else the kill came too late
        place.interrupt(overrides, after=random.randint(12, 24), rank=0, processes=2)
        steps = place.steps()
    again = place.train(overrides, processes=3)
    assert again["metadata"]["training"]["steps"] < 40
    assert again["outcome"] == whole["outcome"]


def test_the_scale_moves_as_that_of_torch():
    words = {"init_scale": 1024.0, "growth_factor": 2.0, "backoff_factor": 0.5,
             "growth_interval": 3}  # fmt: skip
    ours, theirs = LossScale(GradScaler(**words)), torch.amp.GradScaler("cpu", **words)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    for number, bad in enumerate([0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0]):
        gradient = torch.tensor([1.0, float("inf") if bad else 2.0])
        ours.look([gradient.clone()])
        weight.grad = gradient.clone()
        theirs.scale(torch.ones(()))
        before = weight.detach().clone()
        theirs.step(optimizer)
        assert ours.skips == torch.equal(before, weight), number
        theirs.update()
        ours.update()
        assert ours.scale == theirs.get_scale(), number
        held = ours.state_dict()
        ours = LossScale(GradScaler(**words))
        ours.load_state_dict(held)


def test_a_scale_that_helps_nothing_ends_the_run():
    scale = LossScale(GradScaler(init_scale=2.0, growth_factor=2.0, backoff_factor=0.5,
                                 growth_interval=3))  # fmt: skip

    def overflow(times):
        for _ in range(times):
            scale.look([torch.tensor([float("nan")])])
            scale.update()

    overflow(60)
    with pytest.raises(Failure, match="the loss cannot be scaled by"):
        overflow(10)


@pytest.mark.slow
def test_frozen_parameters_stand_still_and_train_from_their_step_on(place):
    from safetensors.torch import load_file

    runs = {}
    for steps in (1, 20, 22):
        record = place.train((*SHORT, THAWED, f"trainer.max_steps={steps}",
                              "trainer.keep_weights=last"))  # fmt: skip
        runs[steps] = load_file(place.project.root / "runs" / record["run"] / "model"
                                / "weights.safetensors")  # fmt: skip
    first, *_ = (name for name in runs[1] if name.startswith("layers.0."))
    others = [name for name in runs[1] if not name.startswith("layers.0.")]
    assert torch.equal(runs[1][first], runs[20][first])  # neither gradient nor weight decay
    assert not torch.equal(runs[20][first], runs[22][first])
    assert not any(torch.equal(runs[1][name], runs[20][name]) for name in others)


def test_a_parameter_that_no_loss_uses_is_said(place):
    record = place.train((*SHORT, "model._target_=project.odd_models.idle",
                          "trainer.max_steps=2"))  # fmt: skip
    (said,) = record["metadata"]["training"]["warnings"]
    assert said.startswith("no loss of the first step depends on 2 of the trained parameters "
                           "('unused.weight', 'unused.bias')")  # fmt: skip
    assert not place.train((*SHORT, "trainer.max_steps=2"))["metadata"]["training"]["warnings"]


@pytest.mark.parametrize(
    ("overrides", "what", "fix"),
    [
        (("model._target_=project.odd_models.Synchronous",), "SyncBatchNorm takes its statistics",
         "use torch.nn.BatchNorm1d, 2d or 3d"),
        (("trainer.precision=float16",), "float16 needs a scaler", "mend"),
        ((HALF[1],), "nothing else has one", "mend"),
        (("model._target_=project.odd_models.Thawing",),
         "the model changed its parts while it trained", "parameter_groups with frozen: STEP"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(place, overrides, what, fix):
    said = place.project.refused("train", *SHORT, *overrides)
    assert what in said
    assert fix in said
