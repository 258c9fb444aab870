"""Measure a model on a split: fixed batches, a stream of its own, predictions kept bit for bit."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from saigen.config.schema import Config
from saigen.data.contract import Task, metrics_of, refuse_columns, rows_of
from saigen.data.loader import Batch, to_device
from saigen.errors import Refusal
from saigen.streams import Streams
from saigen.training.build import build_dataset, build_reader
from saigen.training.leaks import GlobalsWatch

PURPOSES = ("validation", "test", "prediction")  # places in the stream `evaluation`


class Evaluation:
    """How models are measured on the arrays of one split.

    Every forward pass has `trainer.eval_batch_size` rows, the last one filled up by
    repeating samples, so that a row's bits do not depend on how many rows stand in the file. What
    draws numbers there draws the same each time: the stream `evaluation` is set before each batch,
    by purpose and batch, whatever was measured or trained before.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        streams: Streams,
        purpose: str,
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        """Build the dataset. Raises Refusal if it has not a sample for each row."""
        self.task, self._streams, self._targets = task, streams, arrays
        self._purpose = PURPOSES.index(purpose)
        dataset = build_dataset(config, streams, "evaluation_dataset", arrays)
        self._reader, self._samples = build_reader(config, dataset), len(dataset)
        self._size = config.trainer.eval_batch_size
        self._device = torch.device(config.hardware.device)
        self._precision = getattr(torch, config.trainer.precision)
        rows = {len(array) for array in arrays.values()}
        if rows != {self._samples}:
            raise Refusal(
                "the evaluation dataset has not one sample for each prepared row",
                where="data.evaluation_dataset",
                expected=f"{', '.join(map(str, sorted(rows)))} samples",
                got=f"{self._samples}",
                fix="leave out, add or join rows in prepare: metrics compare predictions with "
                "the prepared rows, one by one",
            )

    def predict(self, model: torch.nn.Module) -> dict[str, np.ndarray]:
        """Predictions for every sample, in order; the model is left in the modes it had."""
        parts: dict[str, list[np.ndarray]] = {}
        with evaluating(model, self.task):
            for number, start in enumerate(range(0, self._samples, self._size)):
                rows = np.arange(start, start + self._size) % self._samples
                self._streams.set_globals("evaluation", self._purpose, number)
                found = self.task.predictions(self._outputs(model, self._read(rows)))
                kept = min(self._size, self._samples - start)
                for name, array in rows_of(found, self._size, kept, self.task).items():
                    parts.setdefault(name, []).append(array)
        whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        refuse_columns(whole, self.task)
        return whole

    def measure(self, model: torch.nn.Module) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Predictions, and metrics as floats."""
        found = self.predict(model)
        self._streams.set_globals("evaluation", self._purpose)
        return found, metrics_of(self.task.metrics(found, self._targets), self.task)

    def outputs(self, model: torch.nn.Module) -> Any:
        """What the model makes of the first batch, with the streams as they are."""
        return self._outputs(model, self._read(np.arange(self._size) % self._samples))

    def warnings(self, model: torch.nn.Module) -> list[str]:
        """What moves predictions besides weights and row, seen on one batch: draws, or the other
        rows of the batch.
        """
        rows = np.arange(self._size) % self._samples
        others = rows.copy()
        others[1::2] = rows[::2][: len(others[1::2])]
        with evaluating(model, self.task):
            first, drew, _ = self._watched(model, rows, locate=False)
            if drew:
                _, _, line = self._watched(model, rows, locate=True)
                return [
                    f"evaluation draws random numbers ({line or drew}): a dropout left on, or a "
                    "model that samples; they come from the stream `evaluation`"
                ]
            second, _, _ = self._watched(model, others, locate=False)
        if all(_same_bits(array[::2], second[name][::2]) for name, array in first.items()):
            return []
        return [
            "the predictions for a row depend on the other rows of its batch: on "
            "trainer.eval_batch_size, and on what else stands in a file"
        ]

    def _watched(
        self, model: torch.nn.Module, rows: np.ndarray, *, locate: bool
    ) -> tuple[dict[str, np.ndarray], str, str | None]:
        """Predictions for a batch, which global generators moved, and the line that moved one."""
        watch = GlobalsWatch(locate=locate)
        self._streams.set_globals("evaluation", self._purpose, 0)
        watch.arm()
        found = self.task.predictions(self._outputs(model, self._read(rows)))
        moved = watch.check()
        rows_kept = rows_of(found, self._size, self._size, self.task)
        return rows_kept, ", ".join(moved), watch.first

    def _read(self, rows: np.ndarray) -> Batch:
        return to_device(self._reader.fetch(rows), self._device)

    def _outputs(self, model: torch.nn.Module, batch: Batch) -> Any:
        enabled = self._precision != torch.float32
        with torch.autocast(self._device.type, dtype=self._precision, enabled=enabled):
            return self.task.forward(model, batch)


@contextmanager
def evaluating(*parts: object) -> Iterator[None]:
    """While the context lasts: evaluation mode of all parts that are modules, and no gradients.
    Then each module's own mode again.

    Not `inference_mode`: what a model computes once and keeps could not be trained with.
    """
    whole = [part for part in parts if isinstance(part, torch.nn.Module)]
    modes = [(module, module.training) for part in whole for module in part.modules()]
    before = [part.training for part in whole]
    try:
        for part in whole:
            part.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in zip(whole, before, strict=True):
            part.train(mode)  # for what a model does in a `train` of its own
        for module, mode in modes:
            module.training = mode


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.tobytes() == other.tobytes()
