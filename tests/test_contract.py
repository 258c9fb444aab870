"""What a task or dataset gives instead of its contract: taken, or refused with the line."""

import decimal
import fractions
import json
import math
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import copy_project

from saigen.data.contract import check_loss, metrics_of, refuse_columns, rows_of
from saigen.data.loader import Reader
from saigen.errors import Failure, Refusal
from saigen.training.step_totals import StepTotals


class Task:
    """The smallest task; what its methods give is up to the test."""

    def forward(self, model, batch): ...

    def loss(self, outputs, batch): ...

    def predictions(self, outputs): ...

    def metrics(self, predictions, targets): ...


def at(method) -> str:
    """Where a refusal must point."""
    code = method.__code__
    return f"{os.path.relpath(__file__)}:{code.co_firstlineno} ({code.co_qualname})"


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        np.float64(0.5),
        np.float32(0.5),
        np.float16(0.5),
        np.longdouble(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor(0.5, dtype=torch.bfloat16),
        torch.tensor(0.5, requires_grad=True),
        fractions.Fraction(1, 2),
        decimal.Decimal("0.5"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_number_is_a_float_whoever_made_it(value):
    found = metrics_of({"accuracy": value}, Task())["accuracy"]
    assert type(found) is float
    assert found == 0.5


@pytest.mark.parametrize("value", [1, True, np.int64(1), np.bool_(True), torch.tensor(1)])
def test_whole_numbers_and_truths_are_floats_too(value):
    assert metrics_of({"right": value}, Task()) == {"right": 1.0}
    assert type(metrics_of({"right": value}, Task())["right"]) is float


@pytest.mark.parametrize(
    "found",
    [
        {"accuracy": [0.5]},
        {"accuracy": np.array([0.5])},
        {"accuracy": torch.tensor([0.5])},
        {"accuracy": (0.5,)},
        {"accuracy": "0.5"},
        {"accuracy": np.str_("0.5")},
        {"accuracy": None},
        {"accuracy": {"all": 0.5}},
        {"accuracy": 0.5j},
        {"accuracy": np.complex64(0.5)},
        {"accuracy": torch.tensor(0.5j)},
        {"accuracy": np.datetime64("2026-01-01")},
        {"accuracy": 10**400},
        {1: 0.5},
        {"": 0.5},
        {},
        None,
        0.5,
        [("accuracy", 0.5)],
    ],
    ids=str,
)
def test_what_is_no_metric_is_refused_by_name_and_line(found):
    with pytest.raises(Refusal, match=r"the metrics? ") as raised:
        metrics_of(found, Task())
    assert raised.value.where == at(Task.metrics)
    assert raised.value.expected == "a mapping of names to numbers: {'accuracy': 0.9}"
    assert raised.value.fix.startswith("change the method so that it gives a mapping")


SUM = torch.tensor(3.0, requires_grad=True)


@pytest.mark.parametrize(
    "count", [2, 0, 2.5, np.int64(2), np.array(2), torch.tensor(2), torch.tensor([2.0])]
)
def test_a_count_may_be_any_number(count):
    check_loss((SUM, count), Task())


@pytest.mark.parametrize(
    ("result", "what"),
    [
        (SUM, "the loss comes without its count"),
        (torch.ones(2, requires_grad=True), "the loss comes without its count"),
        ((SUM,), "the loss comes without its count"),
        ((SUM, 2, 3), "the components of the loss have no names"),
        ((SUM, 2, {"kl": 1.0}), "a component of the loss is not one number"),
        ({"loss": SUM, "count": 2}, "the loss comes without its count"),
        (None, "the loss comes without its count"),
        ((torch.ones(2, requires_grad=True), 2), "the loss is not one number"),
        ((3.0, 2), "the loss is not one number"),
        ((torch.tensor(3), 2), "the loss is not one number"),
        ((torch.tensor(3.0), 2), "the loss has no gradient"),
        ((SUM, "2"), "the loss's count is not a number from 0 up"),
        ((SUM, None), "the loss's count is not a number from 0 up"),
        ((SUM, -1), "the loss's count is not a number from 0 up"),
        ((SUM, math.nan), "the loss's count is not a number from 0 up"),
        ((SUM, True), "the loss's count is not a number from 0 up"),
        ((SUM, torch.ones(3)), "the loss's count is not a number from 0 up"),
    ],
)
def test_what_is_no_loss_is_refused_by_line(result, what):
    with pytest.raises(Refusal, match=what) as raised:
        check_loss(result, Task())
    assert raised.value.where == at(Task.loss)
    assert "a sum over the batch (a tensor of one number)" in raised.value.expected


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8,
     torch.bool, torch.float8_e4m3fn],
)  # fmt: skip
def test_predictions_of_every_real_type_are_rows_of_numbers(dtype):
    values = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(dtype)
    rows = rows_of({"a": values, "b": values[:, 0].cpu()}, 3, 2, Task())
    assert rows["a"].tolist() == [[0, 1], [1, 0]]
    assert rows["b"].shape == (2,)
    assert rows_of({"a": values.float().numpy()}, 3, 2, Task())["a"].shape == (2, 2)
    assert rows_of({"a": values.float().requires_grad_()}, 3, 3, Task())["a"].shape == (3, 2)


@pytest.mark.parametrize(
    "found",
    [
        torch.ones(3),
        {},
        {"a": torch.ones(4)},
        {"a": torch.tensor(1.0)},
        {"a": [1.0, 2.0, 3.0]},
        {"a": torch.ones(3, dtype=torch.complex64)},
        {"a": torch.ones(3, 2).to_sparse()},
        {"a": np.array(["x", "y", "z"])},
        {"a": None},
        {1: torch.ones(3)},
        {"": torch.ones(3)},
    ],
    ids=str,
)
def test_predictions_that_are_no_rows_are_refused_by_line(found):
    with pytest.raises(Refusal, match=r"the predictions? ") as raised:
        rows_of(found, 3, 3, Task())
    assert raised.value.where == at(Task.predictions)
    assert "one row a sample (3)" in raised.value.expected


@pytest.mark.parametrize(
    ("names", "twice"),
    [
        ({"id": (3,)}, "'id' twice, from the predictions id"),
        ({"label": (3,), "id": (3,)}, "'id' twice, from the predictions label, id"),
        ({"a": (3, 2), "a_1": (3,)}, "'a_1' twice, from the predictions a, a_1"),
        ({"a_0": (3,), "a": (3, 1, 1)}, "'a_0' twice, from the predictions a_0, a"),
    ],
)
def test_predictions_whose_columns_would_have_one_name_are_refused(names, twice):
    found = {name: np.zeros(shape) for name, shape in names.items()}
    with pytest.raises(Refusal, match="two columns of the predictions") as raised:
        refuse_columns(found, Task())
    assert raised.value.where == at(Task.predictions)
    assert raised.value.got == twice
    assert "`id` is the name of the row" in raised.value.fix
    refuse_columns({"id": np.zeros((3, 2)), "ids": np.zeros(3), "a": np.zeros((3, 0))}, Task())


class Samples:
    """A dataset that gives one thing."""

    def __init__(self, given):
        self.given = given

    def __getitem__(self, index):
        return self.given(index)


class Batches:
    """The same, whole batches at once."""

    def __init__(self, given):
        self.given = given

    def __getitems__(self, indices):
        return self.given(indices)


BACKWARD = np.arange(12.0).reshape(3, 4)[:, ::-1]
READ_ONLY = np.arange(3.0)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "dataset",
    [
        Samples(lambda index: {"x": np.float32(index), "y": index}),
        Samples(lambda index: {"x": torch.tensor(float(index)), "y": torch.tensor(index)}),
        Samples(lambda index: {"x": float(index), "y": bool(index)}),
        Batches(lambda indices: {"x": np.float32(indices), "y": indices}),
        Batches(lambda indices: {"x": torch.tensor(indices) * 1.0, "y": torch.tensor(indices)}),
        Batches(lambda indices: [{"x": float(index), "y": int(index)} for index in indices]),
        Batches(lambda indices: {"x": [float(index) for index in indices], "y": indices}),
        Batches(lambda indices: {"x": READ_ONLY, "y": indices}),
        Batches(lambda indices: {"x": indices.astype(">f8"), "y": indices}),
    ],
)
def test_samples_and_batches_of_arrays_tensors_and_numbers_are_read(dataset):
    batch = Reader(dataset, None, None).fetch(np.arange(3))
    assert batch["x"].tolist() == [0.0, 1.0, 2.0]
    assert len(batch["y"]) == 3


def test_an_array_that_runs_backward_is_read():
    batch = Reader(Batches(lambda _: {"x": BACKWARD}), None, None).fetch(np.arange(3))
    assert batch["x"].tolist() == BACKWARD.tolist()


@pytest.mark.parametrize(
    ("dataset", "what"),
    [
        (Samples(lambda index: (np.float32(index), index)), "a sample has no names"),
        (Samples(np.float32), "a sample has no names"),
        (Samples(lambda _: None), "a sample has no names"),
        (Batches(lambda indices: (indices, indices)), "a sample has no names"),
        (Batches(lambda indices: [(i, i) for i in indices]), "a sample has no names"),
        (Samples(lambda index: {"x": np.ones(index + 1)}), "the samples of a batch are not alike"),
        (Samples(lambda index: {f"x{index}": 1.0}), "the samples of a batch are not alike"),
        (Samples(lambda index: {"x": torch.ones(index + 1)}), "the samples of a batch are not"),
        (Samples(lambda _: {"x": "a word"}), "torch cannot take 'x'"),
        (Samples(lambda _: {"x": None}), "torch cannot take 'x'"),
        (Batches(lambda _: {"x": np.array(["2026-01-01"], "datetime64[D]")}), "torch cannot take"),
    ],
)
def test_what_is_no_sample_is_refused_by_line(dataset, what):
    with pytest.raises(Refusal, match=what) as raised:
        Reader(dataset, None, None).fetch(np.arange(2))
    reader = getattr(dataset, "__getitems__", None) or dataset.__getitem__
    assert raised.value.where == at(reader)


def settled(loss, count):
    sums = StepTotals(torch.zeros(3, dtype=torch.float64), [])
    sums.put(torch.tensor(loss), count, None, asked_to_stop=False)
    sums.settle(7)
    return sums


def test_a_step_in_which_no_term_counts_has_a_loss_and_a_gradient_of_zero():
    sums = settled(0.0, 0)
    assert (sums.loss, sums.terms) == (0.0, 1.0)
    assert sums.warnings() == ["no term of the loss counted in 1 steps, first in 7"]
    assert settled(3.0, 0.5).loss == 6.0


@pytest.mark.parametrize(
    ("loss", "count", "what"),
    [
        (math.nan, 2, "loss is NaN at step 7"),
        (math.nan, 0, "loss is NaN at step 7"),
        (math.inf, 2, "loss is inf at step 7"),
        (1.0, -2, "the loss is over -2 terms at step 7"),
        (1.0, 0, "the loss is over 0 terms at step 7"),
    ],
)
def test_a_step_without_a_mean_fails_by_name_and_number(loss, count, what):
    with pytest.raises(Failure, match=what):
        settled(loss, count)


ODD = '''
"""Tasks and datasets with a mistake."""

import torch

from project.data import Digits
from project.task import Classification


class Raising(Classification):
    def metrics(self, predictions, targets):
        return {"accuracy": predictions["label"][len(targets["targets"])]}


class Wordy(Classification):
    def metrics(self, predictions, targets):
        return super().metrics(predictions, targets) | {"note": "fine"}


class Undefined(Classification):
    def metrics(self, predictions, targets):
        return super().metrics(predictions, targets) | {"recall": float("nan")}


class Never(Classification):
    def metrics(self, predictions, targets):
        return {"accuracy": float("nan"), "log_loss": float("inf")}


class Mean(Classification):
    def loss(self, outputs, batch):
        total, count = super().loss(outputs, batch)
        return total / count, count


class Masked(Classification):
    def loss(self, outputs, batch):
        total, count = super().loss(outputs, batch)
        kept = bool(batch["targets"].sum() % 3)
        return total * kept, count * kept


class Named(Classification):
    def predictions(self, outputs):
        return super().predictions(outputs) | {"id": outputs[:, 0]}


class Half(Classification):
    def predictions(self, outputs):
        return {"label": outputs.argmax(1), "probability": outputs.softmax(1).bfloat16()}


class Numbers(Classification):
    def metrics(self, predictions, targets):
        import numpy as np

        found = super().metrics(predictions, targets)
        return {"accuracy": np.float32(found["accuracy"]), "log_loss": torch.tensor(1.0)}


class Late(Digits):
    def __getitems__(self, indices):
        read = super().__getitems__(indices)
        read["inputs"] = read["inputs"] * float("nan")
        return read


class Broken(Digits):
    def __getitems__(self, indices):
        return {"inputs": self.arrays["pixels"][indices]}


class Unread(Digits):
    def __getitems__(self, indices):
        return tuple(super().__getitems__(indices).values())


class Shorter(Digits):
    def __len__(self):
        return super().__len__() - 1

class ShorterAtLast(Digits):
    def __len__(self):
        rows = super().__len__()
        return rows - (rows == 288)

class Rootless(Classification):
    def loss(self, outputs, batch):
        total, count = super().loss(outputs, batch)
        return total + (outputs * 0).pow(2).sum().sqrt(), count


class Rereading(Digits):
    read = 0

    def __getitems__(self, indices):
        Rereading.read += 1
        found = super().__getitems__(indices)
        return found | {"inputs": found["inputs"] * (1 + Rereading.read)}


class Drawing(Digits):
    def __getitems__(self, indices):
        import numpy as np

        found = super().__getitems__(indices)
        return found | {"inputs": found["inputs"] + np.float32(np.random.randn())}


def wild(step, total_steps, *, warmup_steps, final_fraction):
    return 1.0 if step < total_steps - 1 else float("nan")

def torn(step, total_steps, *, warmup_steps, final_fraction):
    return 1 / (total_steps - 1 - step)
'''
SHORT = ("trainer.max_epochs=2", "trainer.batch_size=256")


@pytest.fixture(scope="module")
def odd(tmp_path_factory, _prepared_once):
    """A prepared project with odd tasks and datasets."""
    project = copy_project(tmp_path_factory.mktemp("odd") / "project")
    shutil.copytree(_prepared_once, project.root / "prepared")
    (project.root / "src/project/odd.py").write_text(ODD)
    return project


def newest(project):
    paths = project.root.glob("runs/*/record.json")
    return json.loads(max(paths, key=lambda path: path.stat().st_mtime_ns).read_text())


def line(text):
    """Where a text stands in odd.py."""
    return f"src/project/odd.py:{ODD.splitlines().index(text) + 1} "


@pytest.mark.parametrize(
    ("override", "what", "where"),
    [
        ("task._target_=project.odd.Raising", "IndexError in",
         line('        return {"accuracy": predictions["label"][len(targets["targets"])]}')),
        ("task._target_=project.odd.Wordy", "the metric 'note' is not one number", ":16 "),
        ("task._target_=project.odd.Named", "two columns of the predictions would", "(Named.pred"),
        ("data.train_dataset._target_=project.odd.Broken", "KeyError in",
         line('        return {"inputs": self.arrays["pixels"][indices]}')),
        ("data.evaluation_dataset._target_=project.odd.Unread", "a sample has no names", "odd.py:"),
        ("data.evaluation_dataset._target_=project.odd.Shorter", "not one sample for each", "data"),
        ("model.inputs=63", "RuntimeError in", "src/project/models/mlp.py:"),
        ("trainer.monitor=recall", "the metric that picks the weights is not", "trainer."),
        ("comparison.metric=recall", "the metric that is to be compared is not", "comparison."),
        ("data.evaluation_dataset._target_=project.odd.ShorterAtLast", "not one sample for each",
         "288"),
        ("scheduler._target_=project.odd.wild", "the scheduler gives no finite number",
         "at step 7 of 8"),
        ("scheduler._target_=project.odd.torn", "the scheduler gives no finite number",
         "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_broken_contract_is_named_before_the_first_step(odd, override, what, where):
    done = odd.run(sys.executable, "-m", "saigen", "train", *SHORT, override)
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert what in done.stderr
    assert where in done.stderr
    assert "step 1/" not in done.stderr
    assert what in odd.saigen("runs").splitlines()[-1]
    assert what in odd.saigen("show", "last")


@pytest.mark.slow
def test_the_whole_way_to_an_error_is_shown_to_whom_asks(odd):
    command = (sys.executable, "-m", "saigen", "train", *SHORT, "task._target_=project.odd.Raising")
    done = odd.run(*command, env={"SAIGEN_TRACEBACK": "1"})
    assert "Traceback (most recent call last)" in done.stderr
    assert "failed: IndexError in src/project/odd.py" in done.stderr


def test_a_metric_of_any_type_goes_through_a_kill_and_the_evaluation(odd):
    odd.saigen("train", *SHORT, "task._target_=project.odd.Numbers")
    record = newest(odd)
    assert record["outcome"]["metrics"]["log_loss"] == 1.0
    state = max((odd.root / "runs" / record["run"]).glob("checkpoints/*/checkpoint.json"))
    value = json.loads(state.read_text())["values"]["selection"]["value"]
    assert value == repr(float(value))


def test_a_metric_that_is_not_a_number_is_recorded_as_such_and_never_the_best(odd):
    undefined = "task._target_=project.odd.Undefined"
    odd.saigen("train", *SHORT, undefined)
    record = newest(odd)
    assert record["outcome"]["metrics"]["recall"] == "NaN"
    assert "NaN" not in json.dumps({**record, "outcome": 0}, allow_nan=False)
    assert "recall nan" in odd.saigen("runs")
    assert "measured again: the same metrics" in odd.saigen("evaluate", "last")
    told = odd.saigen("runs", "recall=NaN", "--sort=-recall", "--json")
    assert json.loads(told)["runs"][0]["metrics"]["recall"] == "NaN"
    text = odd.refused("train", *SHORT, undefined, "trainer.nonfinite_metrics=refuse", code=1)
    assert "the metric recall is NaN" in text
    assert "trainer.nonfinite_metrics=record" in text
    odd.saigen("train", *SHORT, undefined, "trainer.monitor=recall", "trainer.keep_weights=last")
    assert newest(odd)["outcome"]["weights"]["step"] == 8
    text = odd.refused("train", *SHORT, undefined, "trainer.monitor=recall", code=1)
    assert "no validation gave a finite recall" in text
    assert "trainer.keep_weights=last" in text


def test_weights_that_became_nan_are_never_published(odd):
    text = odd.refused("train", "task._target_=project.odd.Rootless", "trainer.max_steps=1", code=1)
    assert "failed: the weights are NaN after step 0" in text
    assert "where:    model, 'layers.0.weight'" in text


def test_samples_that_are_others_when_read_again_are_said(odd):
    name = "Rereading"
    text = odd.saigen("train", f"data.train_dataset._target_=project.odd.{name}", "debug=two_steps")
    at = f"{line(f'class {name}(Digits):')}({name})"
    says = f"warning: the same samples are others when they are read a second time ('inputs': {at})"
    assert says in text


def test_a_loss_that_seems_to_be_a_mean_is_said(odd):
    mean = ODD.splitlines().index("class Mean(Classification):") + 2
    said = odd.saigen("train", *SHORT, "task._target_=project.odd.Mean")
    assert "warning: the loss seems to be a mean" in said
    assert f"src/project/odd.py:{mean} (Mean.loss)" in said
    assert "seems to be a mean" in newest(odd)["metadata"]["training"]["warnings"][0]


def test_steps_in_which_no_term_counts_train_and_are_said(odd):
    said = odd.saigen("train", *SHORT, "task._target_=project.odd.Masked")
    assert "warning: no term of the loss counted in" in said


def test_predictions_in_bfloat16_are_evaluated(odd):
    odd.saigen("train", *SHORT, "task._target_=project.odd.Half")


def test_a_failed_run_says_what_ended_it_and_goes_on_as_the_same_run(odd):
    late = "data.train_dataset._target_=project.odd.Late"
    text = odd.refused("train", *SHORT, late, code=1)
    assert "failed: loss is NaN at step 0" in text
    record = newest(odd)
    assert record["metadata"]["failure"]["what"] == "loss is NaN at step 0"
    row = json.loads(odd.saigen("runs", "--json"))["runs"][-1]
    assert (row["state"], row["failure"]) == ("failed", "loss is NaN at step 0")
    done = odd.run(sys.executable, "-m", "saigen", "train", *SHORT, late)
    assert "this run failed before (loss is NaN at step 0)" in done.stdout
    assert newest(odd)["run"] == record["run"]
    assert newest(odd)["metadata"]["continued"][0]["after_failure"]["what"] in done.stdout


def test_what_cannot_be_built_is_refused_with_the_librarys_own_word(odd):
    text = odd.refused("train", *SHORT, "optimizer.lr=-1.0")
    assert "torch.optim.AdamW cannot be built: ValueError" in text
    assert "Invalid learning rate: -1.0" in text
    text = odd.refused("train", *SHORT, "model.dropout=1.5")
    assert "src/project/models/mlp.py:" in text


@pytest.fixture
def spoiled(project):
    """Edit the preparation so that its transform ends in other words; what `prepare` says then."""
    path = project.root / "src/project/prepare.py"

    def say(last: str) -> str:
        path.write_text(path.read_text().replace("        return arrays\n", f"        {last}\n"))
        return project.refused("prepare", code=1 if "missing" in last else 2)

    return say


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_finite_in_a_prepared_array_is_named_by_array_and_id(spoiled, value):
    text = spoiled(f'arrays["inputs"][3, 5] = float("{value}"); return arrays')
    assert f"the array 'inputs' holds {value}" in text
    assert "record digit-0" in text
    assert f"{value} at (3, 5), the first of 1" in text
    assert "Standardize.transform" in text


def test_an_array_of_other_rows_is_named(spoiled):
    text = spoiled('arrays["inputs"] = arrays["inputs"][1:]; return arrays')
    assert "the array 'inputs' has not one row for each record" in text


def test_an_error_of_the_preparation_names_its_line(spoiled):
    text = spoiled('return arrays["missing"]')
    assert "failed: KeyError in src/project/prepare.py:" in text


def test_what_is_not_finite_in_what_was_fitted_is_named(project):
    path = project.root / "src/project/prepare.py"
    path.write_text(path.read_text().replace("1.0 / (d + self.epsilon)", "float('inf')"))
    text = project.refused("prepare")
    assert "the array 'scale' holds inf" in text
    assert "Standardize.fit" in text
