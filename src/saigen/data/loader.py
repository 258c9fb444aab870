"""Loading: from sample indices to a batch, at once where the dataset can, in workers where it pays.

What a sample looks like is a function of (epoch, sample), never of the worker that read it.
"""

import inspect
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from saigen.data.contract import broken, described
from saigen.errors import Failure, Refusal
from saigen.interruption import outlive_a_stop
from saigen.streams import Streams

Batch = dict[str, torch.Tensor]
# an epoch, the samples (B,) of one microbatch, and their positions in the epoch
Position = tuple[int, np.ndarray, np.ndarray]
Collate = Callable[..., Any]


class Dataset(Protocol):
    """What `project/data.py` provides: `__len__`, and `__getitems__` or `__getitem__` or both.

    `__getitems__(indices)` reads a whole batch as arrays of B rows, or as a list of samples;
    `__getitem__(index)` reads one sample as arrays without that first axis. Either may take a
    `generator` besides. A sample is a mapping, or a tuple whose parts `data.fields` names.
    """

    def __len__(self) -> int:
        """How many samples there are."""


class Reader:
    """Makes batches of what a dataset gives: samples or whole batches, mappings or tuples."""

    def __init__(self, dataset: Dataset, fields: Sequence[str] | None, collate: Collate | None):
        self.dataset: Any = dataset
        self._fields, self._collate = fields, collate
        self.collated = False  # whether any batch went through `data.collate`
        self.reads_at_once = hasattr(dataset, "__getitems__")
        name = "__getitems__" if self.reads_at_once else "__getitem__"
        self.method = getattr(dataset, name)
        method = getattr(type(dataset), name, None)
        parameters = inspect.signature(method).parameters if method else {}
        self.takes_generator = "generator" in parameters

    def fetch(self, indices: np.ndarray) -> Batch:
        """Read samples (B,) without any randomness, as for evaluation. Tensors of B rows by name.

        Raises Refusal if the dataset draws random numbers.
        """
        if self.takes_generator:
            raise Refusal(
                "a dataset that draws random numbers cannot be used to evaluate",
                where="data.evaluation_dataset",
                expected=f"a dataset whose {self.method.__name__} takes no generator",
                got=type(self.dataset).__name__,
                fix="name the dataset without augmentation there",
            )
        if self.reads_at_once:
            return self.batch(self.method(indices))
        return self.batch([self.method(int(index)) for index in indices])

    def batch(self, read: Any) -> Batch:
        """A batch from a mapping of arrays of B rows, a tuple of them, or a list of samples."""
        if type(read) is dict:  # nearly always, and to ask for a Mapping costs 1 us
            return {name: _tensor(name, array, self.method) for name, array in read.items()}
        if isinstance(read, list) and read and not self._collate:
            return self._stacked([self._named(sample) for sample in read])
        if isinstance(read, list) and self._collate:
            read, self.collated = self._collate(samples=read), True
        named = self._named(read)
        return {name: _tensor(name, array, self.method) for name, array in named.items()}

    def _named(self, read: Any) -> Mapping[str, Any]:
        """A mapping as it is, and a tuple or list as one by the names of the config."""
        if isinstance(read, Mapping):
            return read
        if self._fields is None:
            raise _unreadable(read, self.method)
        parts = read if isinstance(read, tuple | list) else (read,)
        if len(parts) != len(self._fields):
            raise broken(
                "a sample has other parts than data.fields names",
                self.method,
                f"{len(self._fields)} parts: {', '.join(self._fields)} (or another data.fields)",
                described(read),
            )
        return dict(zip(self._fields, parts, strict=True))

    def _stacked(self, samples: Sequence[Mapping[str, Any]]) -> Batch:
        """A batch of samples, by the name of each array."""
        try:
            return {
                name: torch.stack([sample[name] for sample in samples])
                if isinstance(samples[0][name], torch.Tensor)
                else _tensor(name, np.stack([sample[name] for sample in samples]), self.method)
                for name in samples[0]
            }
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise broken(
                "the samples of a batch are not alike",
                self.method,
                "in every sample the same names, and under each arrays of one shape; data.collate "
                "may pad them (saigen.data.collate.padded)",
                f"{type(error).__name__}: {error}",
            ) from error


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on the device; the tensors themselves where they are there already."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


class Loader:
    """Reads microbatches for training; also inside a worker, where it travels by fork or pickle."""

    def __init__(
        self,
        reader: Reader,
        streams: Streams,
        *,
        repeats: bool,
        workers: int,
        pinned: bool,
        timeout_seconds: float,
    ) -> None:
        """`repeats` tells that a sample may stand twice in an epoch."""
        self._reader, self._repeats = reader, repeats
        self._timeout_seconds = timeout_seconds
        self._streams, self._workers, self._pinned = streams, workers, pinned
        self.seeds_batches = False  # also where a whole batch is read at once
        self.sets_globals = not reader.reads_at_once

    def seed_batches(self) -> None:
        """Set the global generators before each batch: its dataset draws from them."""
        self.seeds_batches = self.sets_globals = True

    def batches(self, positions: Iterator[Position]) -> Iterator[Batch]:
        """The microbatches at `places`, in their order.

        Workers prefetch. The DataLoader gets a generator of its own: without one, iterating it
        draws a seed from the global generator. Raises Refusal if the workers cannot hand over their
        batches, Failure if one ends or gives nothing in time.
        """
        if self._workers == 0:
            read = map(self.__getitem__, positions)
            return map(_pinned, read) if self._pinned else read
        loader: DataLoader[Batch] = DataLoader(
            cast(Any, self),
            sampler=cast(Any, positions),
            batch_size=None,
            num_workers=self._workers,
            worker_init_fn=_begin_worker,
            generator=torch.Generator().manual_seed(0),
            pin_memory=self._pinned,
            timeout=self._timeout_seconds,
        )
        try:  # what its queues need; one that is half made prints a traceback of its own
            # that is how many locks torch makes, and some
            [multiprocessing.Semaphore() for _ in range(16 + 4 * self._workers)]
        except OSError as error:
            raise _no_shared_memory(Refusal, str(error)) from error
        return _handed_over(iter(loader))

    def __getitem__(self, position: Position) -> Batch:
        """Read one microbatch."""
        reader = self._reader
        if reader.reads_at_once:
            if self.seeds_batches or reader.takes_generator:
                read = self._drawing(position)
            else:
                read = reader.method(position[1])
        else:
            epoch, samples, places = position
            read = [self._sample(epoch, *at) for at in zip(samples, places, strict=True)]
        batch = reader.batch(read)
        return batch if get_worker_info() is None else _shared(batch)

    def _drawing(self, position: Position) -> Any:
        """A whole batch with random numbers: by its epoch and its first position."""
        epoch, samples, places = position
        at = "augment", epoch, int(samples[0]), int(places[0])
        drawn = {}
        if self.seeds_batches:
            self._streams.set_globals(*at)
        if self._reader.takes_generator:
            drawn["generator"] = self._streams.numpy(*at)
        return self._reader.method(samples, **drawn)

    def _sample(self, epoch: int, sample: int, place: int) -> Any:
        sample = int(sample)
        at = ("augment", epoch, sample, int(place)) if self._repeats else ("augment", epoch, sample)
        # also the global generators, so that transforms that know nothing of us are covered
        self._streams.set_globals(*at)
        drawn = {}
        if self._reader.takes_generator:
            drawn["generator"] = self._streams.numpy(*at)
        return self._reader.method(sample, **drawn)


def _pinned(batch: Batch) -> Batch:
    """A batch in memory that a device copies from by itself: from other memory, the step waits."""
    return {n: t.pin_memory() if t.layout == torch.strided else t for n, t in batch.items()}


def _tensor(name: str, value: Any, reader: Any) -> torch.Tensor:
    """An array as a tensor, of the same memory where torch can use that."""
    if isinstance(value, torch.Tensor):
        return value
    array = np.asarray(value)
    try:
        if array.flags.carray and array.dtype.isnative:  # as nearly every array is
            return torch.from_numpy(array)
        if not array.flags.writeable or min(array.strides) < 0:
            array = array.copy()
        return torch.from_numpy(array if array.dtype.isnative else array.astype(array.dtype.name))
    except (TypeError, ValueError) as error:
        expected = "arrays of numbers or truths, of a type that torch has"
        raise broken(f"torch cannot take {name!r}", reader, expected, described(value)) from error


def _unreadable(read: Any, reader: Any) -> Refusal:
    return broken(
        "a sample has no names",
        reader,
        "a mapping of names to arrays, such as {'inputs': image, 'targets': label}; or names for "
        "the parts of a tuple in data.fields, such as [inputs, targets]",
        described(read),
    )


@dataclass(frozen=True)
class _NotShared:
    """What a worker sends in place of a batch that found no shared memory."""

    why: str


def _shared(batch: Batch) -> Any:
    """A batch in shared memory, in a worker. Left to the DataLoader, a batch for which there is
    none is dropped by a thread of its own, and the run waits for ever.
    """
    try:
        for tensor in batch.values():
            if tensor.layout == torch.strided and tensor.numel():
                tensor.share_memory_()  # type: ignore[no-untyped-call]
    except (RuntimeError, OSError) as error:
        return _NotShared(str(error))
    return batch


def _handed_over(batches: Iterator[Any]) -> Iterator[Batch]:
    """What the workers read, or why it does not come."""
    began = False
    try:
        for batch in batches:
            if isinstance(batch, _NotShared):
                raise _no_shared_memory(Failure if began else Refusal, batch.why)
            yield batch
            began = True
    except RuntimeError as error:
        if not str(error).startswith("DataLoader"):
            raise  # the project's own
        raise Failure(
            "the loader workers give no batch",
            where="hardware.loader_workers",
            expected="a batch of each worker within hardware.process_timeout_seconds",
            got=str(error).splitlines()[0],
            fix="hardware.loader_workers=0 reads in this process, where an error shows; a worker "
            "that was killed may have had too little memory; the same command continues",
        ) from error


def _no_shared_memory(kind: type[Refusal], why: str) -> Refusal:
    return kind(
        "the loader workers have no shared memory for their batches",
        where="/dev/shm (hardware.loader_workers)",
        expected="room for two batches of each worker",
        got=why,
        fix="hardware.loader_workers=0, or a larger /dev/shm, as by `docker run --shm-size=1g`",
    )


def _begin_worker(worker: int) -> None:  # noqa: ARG001
    torch.set_num_threads(1)
    outlive_a_stop()
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what a thread of a worker met, unless it is that the run went away while it took a
    batch: multiprocessing's thread that hands over tensors reports that too.
    """
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)
