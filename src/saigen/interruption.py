"""SIGTERM and SIGHUP, as schedulers and closed terminals send them.

In the loop they are answered at a step's end, elsewhere at once.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_WORKER_SECONDS = 30  # that a run asked to stop has for its last step


class Stopped(BaseException):
    """A verb was asked to stop; what it started ends with it."""


@dataclass
class StopRequest:
    """Whether this process was asked to stop."""

    asked: bool


@contextmanager
def answered(answer: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """While the context lasts, the signals call `answer`, except those that are ignored (nohup).

    Signals reach the main thread only; elsewhere (a test, a notebook's thread) nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, answer)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """Answer a signal by ending the verb."""
    raise Stopped(f"stopped by {signal.Signals(number).name}; the same command continues")


@contextmanager
def stop_noted() -> Iterator[StopRequest]:
    """While the context lasts, a signal sets `asked` and does nothing else."""
    stop_request = StopRequest(asked=False)
    with answered(lambda *_: setattr(stop_request, "asked", True)):
        yield stop_request


def outlive_a_stop() -> None:
    """In a loader's worker: a signal to the whole group must not take the run's batches away before
    its last step. The worker ends with its parent, or after some time.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: signal.alarm(_WORKER_SECONDS))


class InterruptedAtCheckpoint(Exception):
    """Training stopped at a checkpoint because it was asked to; the same command continues."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at a checkpoint after step {step}; the same command continues")


def interruption_behind(error: BaseException) -> BaseException | None:
    """The interruption that an error is, or that it came from.

    What meets one in the middle may end by an error of its own: a class that is being made by a
    RuntimeError, an import by an ImportError.
    """
    seen: BaseException | None = error
    while seen and not isinstance(seen, KeyboardInterrupt | Stopped | InterruptedAtCheckpoint):
        seen = seen.__cause__ or seen.__context__
    return seen
