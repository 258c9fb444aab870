"""What wants training and is not the model's is refused by name, or said, before the first step."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from saigen.refusal import Refusal
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
    return untrained.said(task.loss(model(X)))


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
    assert f"(tests/test_untrained.py:{17 if type(task) is Task else 28} (" in caught.value.where
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


def test_a_buffer_that_the_loss_changes_is_refused_and_goes_in_evaluation_mode():
    norm = nn.BatchNorm1d(2, affine=False)
    task = Task(lambda t, y: t.norm(y).sum(), norm=norm)
    with pytest.raises(Refusal, match="changes a buffer of the task") as caught:
        look(task)
    assert caught.value.where.startswith("task.norm.running_mean (tests/test_untrained.py:")
    assert "put it into evaluation mode" in caught.value.fix
    norm.eval()
    assert look(task) == []
