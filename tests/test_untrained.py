"""What wants training and is not the model's is refused by name, or said, before the first step."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from saigen.errors import Refusal
from saigen.project_code import place_of
from saigen.training.hidden_state import hidden_state
from saigen.training.sanity import _copy
from saigen.training.untrained import Untrained

X = torch.linspace(-1, 1, 12).view(4, 3)
STRAY = nn.Parameter(torch.ones(2))
frozen = nn.Linear(3, 2).requires_grad_(False)


class Task:
    """A task that holds something, and a loss that uses what it is told to use."""

    def __init__(self, use=lambda task, outputs: 0.0, **held):
        vars(self).update(held)
        self.use = use

    def loss(self, outputs):
        return outputs.square().sum() + self.use(self, outputs)


class ModuleTask(nn.Module):
    """The same, itself a module."""

    def __init__(self, use, **held):
        super().__init__()
        for name, part in held.items():
            setattr(self, name, part)
        self.use = use

    loss = Task.loss


def look(task, model=None):
    model = model or nn.Linear(3, 2)
    untrained = Untrained(model, task)
    return untrained.warnings(task.loss(model(X)))


def weighted(of):
    return lambda task, outputs: (outputs * of(task)).sum()


HOLDING = [
    (ModuleTask(weighted(lambda t: t.w), w=nn.Parameter(torch.ones(2))), "task.w"),
    (ModuleTask(weighted(lambda t: t.head.bias), head=nn.Linear(3, 2)), "task.head.bias"),
    (Task(weighted(lambda t: t.w), w=nn.Parameter(torch.ones(2))), "task.w"),
    (Task(weighted(lambda t: t.w), w=torch.ones(2, requires_grad=True)), "task.w"),
    (Task(weighted(lambda t: t.head.bias), head=nn.Linear(3, 2)), "task.head.bias"),
    (Task(weighted(lambda t: t.all[1][0].bias), all={1: [nn.Linear(3, 2)]}), "task.all.1.0.bias"),
    (Task(lambda t, y: t.arc(y).sum(), arc=nn.Sequential(nn.Linear(2, 2))), "task.arc.0."),
]  # fmt: skip


@pytest.mark.parametrize(("task", "name"), HOLDING, ids=[name for _, name in HOLDING])
def test_a_parameter_of_the_task_is_refused_by_name_and_goes_when_frozen(task, name):
    with pytest.raises(Refusal, match="not the model's: nobody trains it") as caught:
        look(task)
    assert caught.value.where.startswith(name)
    assert caught.value.where.endswith(f" ({place_of(type(task))})")
    assert "freeze it (requires_grad_(False))" in caught.value.fix
    for _, part in Untrained(nn.Linear(3, 2), task)._of_task:
        part.requires_grad_(False)
    assert look(task) == []


def test_a_parameter_that_nobody_holds_is_refused_with_the_line_of_the_loss():
    with pytest.raises(Refusal, match="not the model's") as caught:
        look(Task(weighted(lambda _: STRAY)))
    assert caught.value.where.startswith("tests/test_untrained.py:")
    assert caught.value.where.endswith("(Task.loss)")
    assert caught.value.got == "a Parameter (2,) that wants a gradient"


def hiding(**held):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    vars(model[1]).update(held)
    return model


@pytest.mark.parametrize(
    ("held", "name"),
    [
        ({"layers": [nn.Linear(2, 2)]}, "model.1.layers.0.weight"),
        ({"layers": {"a": (nn.Linear(2, 2),)}}, "model.1.layers.a.0.weight"),
        ({"scale": torch.ones(2, 2, requires_grad=True)}, "model.1.scale"),
    ],
)
def test_what_lies_in_a_plain_attribute_of_the_model_is_refused_by_name(held, name):
    model = hiding(**held)
    hidden = next(p for p in Untrained(model, Task())._held.values() if p[0] == name)[1]
    with pytest.raises(Refusal, match="nobody trains it") as caught:
        look(Task(lambda _, outputs: (outputs @ hidden).sum()), model)
    assert caught.value.where.startswith(f"{name} (")
    assert "nn.ModuleList" in caught.value.fix


def test_what_takes_no_part_in_training_is_let_through():
    """A frozen network, a teacher without gradients, a weight of classes, an input's gradient."""
    assert look(Task(weighted(lambda t: t.net.bias), net=frozen)) == []
    assert look(ModuleTask(weighted(lambda t: t.net.bias), net=frozen)) == []
    assert look(Task(weighted(lambda t: t.weight), weight=torch.ones(2))) == []
    assert look(Task(lambda t, y: t.entropy(y, y.softmax(1)),
                     entropy=nn.CrossEntropyLoss(weight=torch.ones(2)))) == []  # fmt: skip
    assert look(Task(), hiding(teacher=[nn.Linear(2, 2)])) == []
    assert look(Task(), hiding(lookup={n: n for n in range(100)}, itself=SimpleNamespace())) == []

    class Penalty(nn.Linear):
        def forward(self, x):
            self.seen = x.detach().requires_grad_()
            return super().forward(self.seen)

    assert look(Task(), Penalty(3, 2)) == []


def test_a_loss_that_goes_through_one_tensor_often_is_looked_at_once():
    def often(_, outputs):
        for _ in range(60):
            outputs = outputs + outputs  # 2^60 ways
        return outputs.sum()

    assert look(Task(often)) == []


def test_idle_parameters_of_the_task_are_said():
    teacher = nn.Linear(3, 2)
    [text] = look(Task(teacher=teacher))
    assert text.startswith("the task holds parameters that want gradients ('task.teacher.weight', ")
    assert "freeze them (requires_grad_(False))" in text


CALLS = [0]


def once_more(task, outputs):
    CALLS[0] += 1
    return outputs.sum() * CALLS[0]


def attribute(make, use):
    return Task(lambda task, outputs: outputs.sum() * use(task.own), own=make())


def looks_back(task, outputs):
    before, task.own = task.own, outputs.detach().mean(0)
    return (outputs * before).sum()


HIDDEN = [
    (Task(looks_back, own=torch.zeros(2)), "('task.own' changed)"),
    (Task(once_more), "(no attribute of model or task changed)"),
    (attribute(lambda: random.Random(0), lambda own: own.random()), "('task.own' changed)"),
    (attribute(lambda: np.random.default_rng(0), lambda own: own.random()), "('task.own' changed)"),
    (attribute(lambda: np.random.RandomState(0), lambda own: own.rand()), "('task.own' changed)"),
    (attribute(torch.Generator, lambda own: torch.rand(1, generator=own)), "('task.own' changed)"),
    (attribute(lambda: np.ones(2), lambda own: own.__iadd__(1).sum()), "('task.own' changed)"),
    (attribute(lambda: torch.ones(2), lambda own: own.add_(1).sum()), "('task.own' changed)"),
    (attribute(lambda: {"n": [0]}, lambda own: own["n"].append(1) or len(own["n"])), "('task.own'"),
    (attribute(lambda: [], lambda own: own.append(0) or len(own)), "('task.own' changed)"),
]


@pytest.fixture
def _deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def hidden(task, model=None):
    model = model or nn.Linear(3, 2)

    def loss_of(rows):
        torch.manual_seed(0)
        return task.loss(model(rows["x"])), len(rows["x"])

    loss_of({"x": X.clone()})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = hidden_state(model, task, loss_of, {"x": X.clone()}, is_copy=True)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    return found


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize(("task", "names"), HIDDEN)
def test_a_loss_that_hangs_on_what_no_checkpoint_keeps_is_said(task, names):
    [text] = hidden(task)
    assert text.startswith("the loss of the same rows, weights and random numbers is another one")
    assert names in text
    assert "make what it depends on a buffer or extra state" in text


class CountsBackward(nn.Linear):
    def __init__(self, on):
        super().__init__(3, 2)
        self.calls = 0
        if on == "parameter":
            self.weight.register_hook(self.scale)
        else:
            self.register_full_backward_pre_hook(lambda module, out: (module.scale(out[0]),))

    def scale(self, gradient):
        self.calls += 1
        return gradient * self.calls


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("on", ["parameter", "module"])
def test_a_gradient_that_hangs_on_what_no_checkpoint_keeps_is_said(on):
    model = nn.Sequential(nn.Linear(3, 3), CountsBackward(on))
    [text] = hidden(Task(), _copy(model))
    assert text.startswith("the gradient of the same rows, weights and random numbers is another")
    assert "('model.1.calls' changed)" in text
    assert model[1].calls == 0  # the hooks of the copy are the copy's


class InPlace(nn.Linear):
    def forward(self, x):
        return super().forward(x.mul_(2))


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)),
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.5), nn.Linear(4, 2)),
        nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)),
        InPlace(3, 2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_draws_buffers_and_changed_batches_are_no_hidden_state(model):
    assert hidden(Task(), model) == []


@pytest.mark.usefixtures("_deterministic")
def test_what_fails_on_other_rows_changes_no_state_and_is_not_asked():
    class Fixed(nn.BatchNorm1d):
        def forward(self, x):
            found = super().forward(x)
            assert len(x) == len(X)
            return found[:, :2]

    assert hidden(Task(), Fixed(3)) == []


@pytest.mark.usefixtures("_deterministic")
def test_where_kernels_may_differ_nobody_looks_for_hidden_state():
    torch.use_deterministic_algorithms(False)
    assert hidden(Task(once_more)) == []


def test_a_buffer_that_the_loss_changes_is_refused_and_goes_in_evaluation_mode():
    norm = nn.BatchNorm1d(2, affine=False)
    task = Task(lambda t, y: t.norm(y).sum(), norm=norm)
    with pytest.raises(Refusal, match="changes a buffer of the task") as caught:
        look(task)
    assert caught.value.where.startswith("task.norm.running_mean (tests/test_untrained.py:")
    assert "put it into evaluation mode" in caught.value.fix
    norm.eval()
    assert look(task) == []
