"""Epochs: the order of the training samples, cut into batches and their microbatches."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from saigen.config.callables import instantiate
from saigen.config.schema import Config
from saigen.data.loader import Position
from saigen.data.order import Order
from saigen.data.orders import check_ordering, checked
from saigen.errors import Refusal
from saigen.project_code import project_errors
from saigen.streams import Streams

Batch = tuple[int, int, np.ndarray]  # an epoch, the first position, the samples (B,)


class Epochs:
    """Which samples stand in which step: a function of its number.

    What is left of an epoch after its last whole batch sits out, is a batch of its own, or is
    filled up from the epoch's beginning (`trainer.last_batch`).
    """

    def __init__(
        self, config: Config, streams: Streams, samples: int, arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Build `data.order`. Raises Refusal if it gives no order, or an epoch has no batch."""
        trainer = config.trainer
        with project_errors():
            ordering: Any = instantiate(config.data.order, samples=samples, arrays=arrays)
            self.positions = check_ordering(ordering, samples)
        self.repeats = bool(getattr(ordering, "repeats", True))
        self._ordering, self._streams = checked(ordering, samples), streams
        self.batch_size = self.positions if trainer.batch_size == "all" else trainer.batch_size
        self.microbatches, self._fills = trainer.microbatches, trainer.last_batch == "fill"
        whole, rest = divmod(self.positions, self.batch_size)
        if trainer.last_batch == "drop" and not whole:
            raise batch_too_large(self.batch_size, self.positions)
        self.steps = whole + bool(rest and trainer.last_batch != "drop")
        smallest = rest if rest and trainer.last_batch == "keep" else self.batch_size
        if smallest < self.microbatches:
            raise Refusal(
                "the last batch of an epoch has not a row for each microbatch",
                where="trainer.last_batch" if rest else "trainer.microbatches",
                expected=f"at least {self.microbatches} rows",
                got=str(smallest),
                fix=f"set trainer.last_batch=drop or fill, or trainer.microbatches={smallest}",
            )

    def batches(self, steps: range) -> Iterator[Batch]:
        """The batches of these steps, one after another."""
        size, order = self.batch_size, self._order(0)
        for step in steps:
            epoch, at = divmod(step, self.steps)
            if epoch != order.epoch:
                order = self._order(epoch)
            start, stop = at * size, (at + 1) * size
            samples = order.indices(start, min(stop, self.positions))
            while self._fills and len(samples) < size:
                more = order.indices(0, min(size - len(samples), self.positions))
                samples = np.concatenate([samples, more])
            yield epoch, start, samples

    def microbatch(self, batch: Batch, number: int) -> Position:
        """A slice of a batch, as long as the others, or one row longer where that cannot be."""
        epoch, start, samples = batch
        part, longer = divmod(len(samples), self.microbatches)
        first = number * part + min(number, longer)
        last = first + part + (number < longer)
        return epoch, samples[first:last], np.arange(start + first, start + last)

    def _order(self, epoch: int) -> Order:
        return Order(self._streams, self._ordering, self.positions, epoch)


def batch_too_large(size: int, positions: int) -> Refusal:
    """A batch that an epoch does not fill once."""
    return Refusal(
        "a batch is larger than the data",
        where="trainer.batch_size",
        expected=f"at most {positions}, the size of the training split",
        got=str(size),
        fix=f"set trainer.batch_size={positions} or lower, trainer.batch_size=all, or prepare "
        "more data",
    )
