"""Sine waves that are continued, by LBFGS, as in pytorch/examples/time_sequence_prediction."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from saigen import Config, Run
from saigen.data.preparation import Arrays, Table
from saigen.data.rows import read_rows

Batch = Mapping[str, Tensor]


class Waves:
    """Makes a wave of a phase: nothing is fitted."""

    def __init__(self, *, length: int, period: float) -> None:
        self.length, self.period = length, period

    def read(self, path: Path) -> Table:
        """Read ids and phases."""
        rows = read_rows(path, ["id", "phase"])
        phases = rows.whole_numbers(["phase"], 0, 1000)[:, 0]
        return Table(ids=tuple(rows.column("id")), columns={"phase": phases})

    def fit(self, train: Table) -> Arrays:  # noqa: ARG002
        """Learn nothing."""
        return {}

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:  # noqa: ARG002
        """`inputs` and `targets` (rows, length) float32: a wave, and the same a place later."""
        places = range(self.length + 1)
        waves = [[math.sin((phase + t) / self.period) for t in places]
                 for phase in table.columns["phase"].tolist()]  # fmt: skip
        whole = np.array(waves, np.float32)
        return {"inputs": whole[:, :-1].copy(), "targets": whole[:, 1:].copy()}


class Sequence(nn.Module):
    """Two LSTM cells and a number out."""

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.first, self.second = nn.LSTMCell(1, hidden), nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, waves: Tensor) -> Tensor:
        """The next number at each place, (B, length)."""
        start = waves.new_zeros(len(waves), self.hidden)
        one, two = (start, start), (start, start)
        found = []
        for number in waves.split(1, dim=1):
            one = self.first(number, one)
            two = self.second(one[0], two)
            found.append(self.linear(two[0]))
        return torch.cat(found, dim=1)


class NextNumber:
    """The squared error of the next number."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Numbers (B, length)."""
        numbers: Tensor = model(batch["inputs"])
        return numbers

    def loss(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, int]:
        """The sum of squares, and over how many numbers."""
        return functional.mse_loss(outputs, batch["targets"], reduction="sum"), outputs.numel()

    def predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        """`next` (B, length)."""
        return {"next": outputs}

    def metrics(
        self, predictions: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]
    ) -> dict[str, float]:
        """`error`, the mean square."""
        squares = np.square(predictions["next"].astype(np.float64) - targets["targets"])
        return {"error": float(squares.mean())}


def train(config: Config, run: Run) -> None:
    """Let the optimizer ask for the loss as often as it likes."""
    model = run.build(config.model)
    optimizer = run.optimizer(config.optimizer, model)
    run.scheduler(config.scheduler, optimizer)
    run.keep(model=model, optimizer=optimizer)

    for step in run.steps():

        def closure() -> Tensor:
            for batch in step.microbatches(model, max_grad_norm=None):  # noqa: B023
                step.backward(*run.task.loss(run.task.forward(model, batch), batch))  # noqa: B023
            return step.loss  # noqa: B023

        optimizer.step(closure)
        if step.validates:
            run.offer(model, run.evaluate(model))
