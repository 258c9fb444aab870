"""Loading: from sample indices to a batch, at once where the dataset can, in workers where it pays.

What a sample looks like is a function of (epoch, sample), never of the worker that read it.
"""

import inspect
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
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
Position = tuple[int, np.ndarray]  # an epoch, and the samples (B,) of one microbatch


class Dataset(Protocol):
    """What `project/data.py` provides: `__len__`, and `__getitems__` or `__getitem__` or both.

    `__getitems__(indices)` reads a whole batch as arrays of B rows; `__getitem__(index)` reads
    one sample as arrays without that first axis, and may take a `generator` besides.
    """

    def __len__(self) -> int:
        """How many samples there are."""


def fetch(dataset: Dataset, indices: np.ndarray) -> Batch:
    """Read samples (B,) without any randomness, as for evaluation. Tensors of B rows by name."""
    reader: Any = dataset
    if hasattr(reader, "__getitems__"):
        return _tensors(reader.__getitems__(indices), reader.__getitems__)
    if _takes_generator(dataset):
        raise Refusal(
            "a dataset that draws random numbers cannot be used to evaluate",
            where="data.evaluation_dataset",
            expected="a dataset whose __getitem__ takes no generator",
            got=type(dataset).__name__,
            fix="name the dataset without augmentation there",
        )
    return _stacked([reader[int(index)] for index in indices], reader.__getitem__)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same batch on the device; the tensors themselves where they are there already."""
    if device.type == "cpu":
        return batch
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


class Loader:
    """Reads microbatches for training; also inside a worker, where it travels by fork or pickle."""

    def __init__(
        self,
        dataset: Dataset,
        streams: Streams,
        *,
        workers: int,
        pinned: bool,
        timeout_seconds: float,
    ) -> None:
        self._dataset: Any = dataset
        self._timeout_seconds = timeout_seconds
        self._streams, self._workers, self._pinned = streams, workers, pinned
        self.reads_at_once = hasattr(dataset, "__getitems__")
        self._takes_generator = not self.reads_at_once and _takes_generator(dataset)

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
        epoch, samples = position
        if self.reads_at_once:
            batch = _tensors(self._dataset.__getitems__(samples), self._dataset.__getitems__)
        else:
            read = [self._sample(epoch, int(sample)) for sample in samples]
            batch = _stacked(read, self._dataset.__getitem__)
        return batch if get_worker_info() is None else _shared(batch)

    def _sample(self, epoch: int, sample: int) -> Mapping[str, Any]:
        # also the global generators, so that transforms that know nothing of us are covered
        self._streams.set_globals("augment", epoch, sample)
        drawn = {}
        if self._takes_generator:
            drawn["generator"] = self._streams.numpy("augment", epoch, sample)
        read: Mapping[str, Any] = self._dataset.__getitem__(sample, **drawn)
        return read


def _takes_generator(dataset: Dataset) -> bool:
    method = getattr(type(dataset), "__getitem__", None)
    return method is not None and "generator" in inspect.signature(method).parameters


def _pinned(batch: Batch) -> Batch:
    """A batch in memory that a device copies from by itself: from other memory, the step waits."""
    return {n: t.pin_memory() if t.layout == torch.strided else t for n, t in batch.items()}


def _stacked(samples: Sequence[Any], reader: Any) -> Batch:
    """A batch of samples that were read one at a time, by the name of each array."""
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise _unreadable(samples[0], reader)
    try:
        return {
            name: torch.stack([sample[name] for sample in samples])
            if isinstance(samples[0][name], torch.Tensor)
            else _tensor(name, np.stack([sample[name] for sample in samples]), reader)
            for name in samples[0]
        }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise broken(
            "the samples of a batch are not alike",
            reader,
            "in every sample the same names, and under each arrays of one shape",
            f"{type(error).__name__}: {error}",
        ) from error


def _tensors(read: Any, reader: Any) -> Batch:
    """A batch that was read at once: a mapping, or a list of samples as torch's own datasets
    give it.
    """
    if type(read) is dict or isinstance(read, Mapping):  # the question itself costs 1 us
        return {name: _tensor(name, array, reader) for name, array in read.items()}
    if isinstance(read, list) and read and isinstance(read[0], Mapping):
        return _stacked(read, reader)
    raise _unreadable(read, reader)


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
        "a mapping of names to arrays, such as {'inputs': image, 'targets': label}",
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
