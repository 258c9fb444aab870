"""Samples as PyTorch users write them, batches by choice, and the orders: trained, and refused."""

import importlib.util
import random
import sys

import numpy as np
import pytest
import torch

from saigen.data.collate import padded
from saigen.data.loader import Loader, Reader
from saigen.errors import Refusal
from saigen.streams import Streams

PIECES = '''"""Datasets, tasks and orders in other forms."""

import random

import numpy as np
import torch

from project.data import Digits
from project.task import Classification


class Tuples:
    """One (image, label) at a time, of tensors."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays["targets"])

    def __getitem__(self, index):
        image = torch.from_numpy(np.array(self.arrays["inputs"][index]))
        return image + 0.01 * torch.randn(64), int(self.arrays["targets"][index])


class Lists(Digits):
    """A list of (image, label) at once, as torch's fetchers want it, with draws of its own."""

    def __getitems__(self, indices):
        shift = random.random() + np.random.rand() + torch.rand(1).item()
        return [(self.arrays["inputs"][i] + np.float32(0.01 * shift), self.arrays["targets"][i])
                for i in indices]


class Keyed(Digits):
    def __getitems__(self, indices, generator):
        batch = super().__getitems__(indices)
        noise = generator.standard_normal(batch["inputs"].shape, np.float32)
        return batch["inputs"] + 0.01 * noise, batch["targets"]


class Ragged(Digits):
    def __getitems__(self, indices):
        return [(self.arrays["inputs"][i][: 40 + i % 25], self.arrays["targets"][i])
                for i in indices]


def easy_first(*, samples, arrays, share):
    """The share of samples with the smallest labels in the first epoch, then all of them."""
    ranks = np.argsort(arrays["targets"], kind="stable")

    def order(key, epoch, positions):
        return ranks[positions % int(samples * share) if epoch == 0 else positions]

    return order


def counting(*, samples, arrays):
    state = [0]

    def order(key, epoch, positions):
        state[0] += 1
        return (positions + state[0]) % samples

    return order


def listed(*, samples, arrays):
    return list(range(samples))


class Parts(Classification):
    """The loss, and what it is made of."""

    def loss(self, outputs, batch):
        total, count = super().loss(outputs, batch)
        size = outputs.square().sum()
        return total + 0.001 * size, count, {"size": size, "entropy": total}
'''
SHORT = (
    "trainer.batch_size=60", "trainer.microbatches=6", "trainer.max_epochs=2",
    "trainer.eval_batch_size=128", "trainer.keep_weights=last",
    "tracking.checkpoint_every_steps=5", "tracking.trace_flush_steps=4",
    "tracking.history_every_steps=1",
)  # fmt: skip
FIELDS = "data.fields=[inputs,targets]"
EVALUATED = "data.evaluation_dataset._target_=project.pieces"
PLAIN = "data.train_dataset._target_=project.pieces"
ORDER = "data.order._target_=saigen.data.orders"
PADDED = (
    "data.collate={_target_: saigen.data.collate.padded, length: 64, value: 0.5, lengths: null}"
)
CASES = {
    "tuples": (f"{PLAIN}.Tuples", FIELDS),
    "lists": (f"{PLAIN}.Lists", FIELDS),
    "keyed": (f"{PLAIN}.Keyed", FIELDS, f"{ORDER}.Repeated", "+data.order.repeats_each=3"),
    "repeated": (f"{PLAIN}.Tuples", FIELDS, f"{ORDER}.Repeated", "+data.order.repeats_each=3"),
    "ragged": (f"{PLAIN}.Ragged", f"{EVALUATED}.Ragged", FIELDS, PADDED),
    "balanced": (f"{ORDER}.Balanced", "+data.order.by=targets", "trainer.last_batch=keep"),
    "own": ("data.order._target_=project.pieces.easy_first", "+data.order.share=0.5",
            "trainer.last_batch=fill"),
    "all": ("trainer.batch_size=all", "trainer.max_epochs=40", "trainer.validate_every_epochs=10"),
    "parts": ("task._target_=project.pieces.Parts", "trainer.loss_components=[entropy,size]",
              "trainer.validate_every_epochs=null", "trainer.validate_every_steps=7"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pieces(lab):
    """The lab, with the pieces in its project; composing looks at signatures in this process."""
    path = lab.project.root / "src/project/pieces.py"
    path.write_text(PIECES)
    name = "project.pieces"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    yield lab
    sys.modules.pop(name)


def history(lab, record):
    lines = (lab.project.root / "runs" / record["run"] / "history.csv").read_text().splitlines()
    return lines[0].split(","), [line.split(",") for line in lines[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_outcome_over_workers_processes_and_kills(pieces, case):
    overrides = (*SHORT, *CASES[case])
    whole = pieces.train(overrides)
    assert not whole["metadata"]["training"]["draws_outside_streams"]
    assert not [w for w in whole["metadata"]["training"]["warnings"] if "second time" in w]
    steps = 0
    while not steps:  # else the kill came too late
        pieces.interrupt(overrides, after=random.randint(12, 20), rank=0, processes=2, workers=2)
        steps = pieces.steps()
    again = pieces.train(overrides, processes=3)
    assert again["metadata"]["training"]["steps"] < whole["outcome"]["trace"]["steps"]
    assert again["outcome"] == whole["outcome"]


def test_loss_components_stand_in_the_history_and_validation_comes_by_steps(pieces):
    record = pieces.train((*SHORT, *CASES["parts"]), processes=2)
    names, rows = history(pieces, record)
    assert names[-2:] == ["loss_entropy", "loss_size"]
    assert [int(row[0]) for row in rows if row[4]] == [7, 14, 21, 28, 35, 40]
    for row in rows:
        loss, entropy, size = float(row[3]), float(row[5]), float(row[6])
        assert loss == pytest.approx(entropy + 0.001 * size, rel=1e-5)


def test_a_run_stops_once_the_metric_reaches_its_value(pieces):
    goal = ("trainer.max_epochs=40", "trainer.stop_at_value=0.9")
    record = pieces.train((*SHORT, *goal))
    _, rows = history(pieces, record)
    measured = [float(row[4]) for row in rows if row[4]]
    assert measured[-1] >= 0.9
    assert max(measured[:-1]) < 0.9


@pytest.mark.parametrize(
    ("choice", "steps", "last"), [("drop", 20, 60), ("keep", 21, 55), ("fill", 21, 60)]
)
def test_an_epoch_ends_as_the_config_says(pieces, choice, steps, last):
    from saigen.config.compose import compose
    from saigen.data.epochs import Epochs

    config = compose((*SHORT, f"trainer.last_batch={choice}")).config
    epochs = Epochs(config, Streams(config.randomness.streams), 1255, {})
    assert epochs.steps == steps
    batches = list(epochs.batches(range(steps)))
    assert len(batches[-1][2]) == last
    seen = np.concatenate([samples for _, _, samples in batches])
    assert len(set(seen.tolist())) == min(1255, 20 * 60 + (55 if choice != "drop" else 0))
    parts = [epochs.microbatch(batches[-1], number)[1] for number in range(6)]
    assert np.array_equal(np.concatenate(parts), batches[-1][2])
    assert {len(part) for part in parts} <= {last // 6, last // 6 + 1}
    if choice == "fill":
        assert np.array_equal(batches[-1][2][55:], batches[0][2][:5])


@pytest.mark.parametrize(
    ("overrides", "what", "fix"),
    [
        (("data.order._target_=project.pieces.counting",),
         "the order does not say which sample stands where", "change the function of (key, "),
        ((f"{ORDER}.Weighted", "+data.order.by=age"), "the array 'age' gives no weighted order",
         "have `transform` of the preparation make one"),
        ((f"{PLAIN}.Tuples",), "a sample has no names", "[inputs, targets]"),
        ((f"{PLAIN}.Tuples", "data.fields=[inputs]"),
         "a sample has other parts than data.fields names", "2: Tensor, int"),
        ((f"{PLAIN}.Ragged", FIELDS), "the samples of a batch are not alike", "data.collate"),
        ((f"{PLAIN}.Ragged", FIELDS, PADDED.replace("64", "50")),
         "a sample is longer than what samples are filled up to", "set data.collate.length="),
        ((f"{EVALUATED}.Keyed", FIELDS),
         "a dataset that draws random numbers cannot be used to evaluate", "without augmentation"),
        (("task._target_=project.pieces.Parts",), "the loss has other components than the config",
         "set trainer.loss_components to ['size', 'entropy']"),
        (("trainer.loss_components=[kl]",), "the loss has other components than the config",
         "have `loss` of the task give a mapping"),
        ((PADDED,), "data.collate is used for nothing", "set data.collate=null"),
        (("data.order._target_=project.pieces.listed",),
         "the order does not say which sample stands where", "change the function of (key, "),
        (("data.fields=[inputs,inputs]",), "data.fields cannot be: fields must be at least one",
         "mend data.fields"),
        (("trainer.loss_components=[kl,kl]",), "trainer.loss_components cannot be",
         "mend trainer.loss_components"),
        (("trainer.last_batch=keep", "trainer.batch_size=1254", "trainer.microbatches=3"),
         "the last batch of an epoch has not a row for each microbatch", "trainer.microbatches=1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_the_first_step(pieces, overrides, what, fix):
    said = pieces.project.refused("train", *SHORT, *overrides)
    assert f"refused: {what}" in said
    assert fix in said
    assert "step 1/" not in said


def test_two_validation_intervals_or_none_are_refused(pieces):
    for override in ("trainer.validate_every_steps=5", "trainer.validate_every_epochs=null"):
        said = pieces.project.refused("compose", override)
        assert "one of them must be a number, the other null" in said


def test_a_sample_that_comes_again_in_an_epoch_is_augmented_otherwise():
    class Noisy:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"x": torch.rand(1)}

    rows = np.array([2, 2, 2])
    read = [
        Loader(Reader(Noisy(), None, None), Streams({"augment": 0}), repeats=repeats, workers=0,
               pinned=False, timeout_seconds=60)[0, rows, np.arange(3)]["x"]
        for repeats in (False, True)
    ]  # fmt: skip
    assert len(set(read[0].flatten().tolist())) == 1
    assert len(set(read[1].flatten().tolist())) == 3


def test_samples_of_many_lengths_are_filled_up():
    samples = [{"x": np.arange(n, dtype=np.int64), "y": n} for n in (1, 3, 2)]
    batch = padded(samples=samples, length=4, value=9, lengths="n")
    assert batch["x"].tolist() == [[0, 9, 9, 9], [0, 1, 2, 9], [0, 1, 9, 9]]
    assert batch["y"].tolist() == batch["n"].tolist() == [1, 3, 2]
    with pytest.raises(Refusal, match="a sample is longer"):
        padded(samples=samples, length=2, value=9, lengths=None)
