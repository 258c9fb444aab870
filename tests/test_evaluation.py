"""Evaluation is as exact as training: its numbers hang on weights and rows, or that is said."""

import json
import shutil

import pytest
import torch
from conftest import copy_project

from saigen.training.evaluation import evaluating

# models that behave as MLP does, but for one thing
ODD = '''
"""Models with a habit."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from project.data import Digits
from project.models.mlp import MLP


class Sampling(MLP):
    def forward(self, inputs):
        return super().forward(inputs + torch.randn_like(inputs))


class Dropping(MLP):
    def forward(self, inputs):
        return super().forward(functional.dropout(inputs, 0.2))


class Centring(MLP):
    def forward(self, inputs):
        return super().forward(inputs - inputs.mean(dim=0))


class Frozen(MLP):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.norm = nn.BatchNorm1d(64, eps=1e-5, momentum=0.1)
        self.norm.eval()

    def forward(self, inputs):
        return super().forward(self.norm(inputs))


class Caching(MLP):
    scale = None

    def forward(self, inputs):
        if not self.training:
            self.scale = torch.ones(10)
        scale = torch.ones(10) if self.scale is None else self.scale
        return super().forward(inputs) * scale



class Jittered(Digits):
    calls = 0  # where the first look would see it, a batch is seeded
    def __getitems__(self, indices):
        read = super().__getitems__(indices)
        self.calls += 1
        if self.calls < 6:
            return read
        return read | {"inputs": read["inputs"] + np.float32(np.random.rand())}
'''
NAMED = "*, inputs: int, hidden: int, outputs: int, dropout: float"
SHORT = ("trainer.max_epochs=3", "trainer.batch_size=512", "tracking.history_every_steps=1")


@pytest.fixture(scope="module")
def odd(tmp_path_factory, _prepared_once):
    """A prepared project with odd models."""
    project = copy_project(tmp_path_factory.mktemp("odd") / "project")
    shutil.copytree(_prepared_once, project.root / "prepared")
    source = ODD.replace("__init__(self, **sizes)", f"__init__(self, {NAMED})").replace(
        "super().__init__(**sizes)",
        "super().__init__(inputs=inputs, hidden=hidden, outputs=outputs, dropout=dropout)",
    )
    (project.root / "src/project/odd.py").write_text(source)
    return project


def train(project, model, *overrides):
    """Train a model of odd.py; what was said, and the record."""
    said = project.saigen("train", *SHORT, f"model._target_=project.odd.{model}", *overrides)
    paths = project.root.glob("runs/*/record.json")
    return said, json.loads(max(paths, key=lambda path: path.stat().st_mtime_ns).read_text())


def test_a_model_that_samples_gives_the_same_numbers_each_time(odd):
    _, first = train(odd, "Sampling")
    _, second = train(odd, "Sampling")
    assert first["outcome"] == second["outcome"]
    model = f"runs/{first['run']}/model"
    tables = [odd.saigen("predict", model, "data/digits.csv") for _ in range(2)]
    assert tables[0] == tables[1]
    assert "the same metrics and predictions as recorded" in odd.saigen("evaluate", first["run"])


def test_other_numbers_come_with_another_seed_of_the_evaluation_stream(odd):
    _, first = train(odd, "Sampling")
    _, other = train(
        odd, "Sampling", "randomness.streams.evaluation=1", "trainer.keep_weights=last"
    )
    assert first["outcome"]["predictions"] != other["outcome"]["predictions"]


def test_a_module_that_was_put_into_evaluation_mode_stays_in_it(odd):
    from safetensors.torch import load_file

    _, record = train(odd, "Frozen", "trainer.keep_weights=last")
    weights = load_file(odd.root / "runs" / record["run"] / "model/weights.safetensors")
    assert not weights["norm.running_mean"].any()
    assert weights["norm.num_batches_tracked"] == 0


def test_each_module_gets_its_own_mode_back_also_after_an_error():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2))
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_inference_mode_enabled()
    assert [module.training for module in model.modules()] == [True, True, False]
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]
    model.eval()
    with evaluating(model):
        pass
    assert not any(module.training for module in model.modules())


def test_a_task_that_is_a_module_is_evaluated_in_its_mode_too():
    model, task = torch.nn.Dropout(0.5), torch.nn.Dropout(0.5)
    with evaluating(model, task, "another kind of task"):
        assert not model.training
        assert not task.training
    assert model.training
    assert task.training


def test_what_a_model_caches_in_evaluation_can_be_trained_with(odd):
    train(odd, "Caching")


def test_what_validation_draws_moves_no_training(odd):
    """Measured more often, the weights are what they were: the streams are set anew."""
    _, often = train(odd, "Sampling", "trainer.keep_weights=last")
    _, seldom = train(
        odd, "Sampling", "trainer.keep_weights=last", "trainer.validate_every_epochs=3"
    )
    assert often["outcome"]["weights"]["sha256"] == seldom["outcome"]["weights"]["sha256"]
    assert not often["metadata"]["training"]["draws_outside_streams"]


def rows_of(table, names):
    rows = dict(line.split(",", 1) for line in table.splitlines())
    return {name: rows[name] for name in names}


def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(odd):
    """Alone, last, between others: a row of a file is predicted to the same bits."""
    odd.saigen("train", *SHORT, "experiment=cnn_augmented", "model.channels=4")
    model = str(max(odd.root.glob("runs/*/model"), key=lambda path: path.stat().st_mtime_ns))
    head, *lines = (odd.root / "data/digits.csv").read_text().splitlines(keepends=True)
    chosen = [lines[at] for at in (0, 7, 300)]
    names = [line.split(",")[0] for line in chosen]
    files = {"alone": chosen[:1], "few": chosen, "among": lines[:301], "with others": [
        *chosen[:1], *lines[900:1100]]}  # fmt: skip
    found = {}
    for name, rows in files.items():
        path = odd.root / f"{name}.csv"
        path.write_text(head + "".join(rows))
        found[name] = odd.saigen("predict", model, str(path))
    assert rows_of(found["alone"], names[:1]) == rows_of(found["among"], names[:1])
    assert rows_of(found["alone"], names[:1]) == rows_of(found["with others"], names[:1])


@pytest.mark.slow
def test_best_and_stop_are_decided_alike_where_each_process_has_statistics_of_its_own(lab):
    """BatchNorm under `statistical`: the validation of one process decides for all."""
    overrides = (
        "experiment=cnn_augmented", "reproducibility=statistical", "model.channels=4",
        "trainer.batch_size=64", "trainer.microbatches=2", "trainer.max_steps=60",
        "trainer.stop_after_validations=2",
    )  # fmt: skip
    record = lab.train(overrides, processes=2)
    assert record["metadata"]["training"]["processes"] == 2
    assert record["outcome"]["metrics"]["accuracy"] > 0


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("Sampling", "evaluation draws random numbers (src/project/odd.py:15 (Sampling.forward)"),
        ("Dropping", "evaluation draws random numbers (src/project/odd.py:20 (Dropping.forward)"),
        ("Centring", "the predictions for a row depend on the other rows of its batch"),
    ],
)
def test_what_moves_predictions_besides_weights_and_row_is_said(odd, model, says):
    said, record = train(odd, model)
    assert f"warning: {says}" in said
    assert says in record["metadata"]["training"]["warnings"][0]


@pytest.mark.parametrize("shipped", ["model=mlp", "experiment=cnn_augmented"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_that_is_shipped_is_warned_of(odd, shipped, precision):
    chosen = (shipped, f"trainer.precision={precision}")
    assert "warning" not in odd.saigen("train", *chosen, "debug=two_steps")


def test_draws_outside_of_streams_are_said_at_the_end_with_their_line(odd):
    said = odd.saigen("train", *SHORT, "data.train_dataset._target_=project.odd.Jittered")
    assert "warning: random numbers were drawn outside of streams (numpy.random at " in said
    number = ODD.splitlines().index(next(x for x in ODD.splitlines() if "np.random" in x)) + 1
    assert f"src/project/odd.py:{number} (Jittered.__getitems__) drew from numpy.random" in said
