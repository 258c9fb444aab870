"""SIGTERM, as schedulers send it: asked for at any time, answered at a step's end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Wish:
    """Whether this process was asked to stop."""

    asked: bool


@contextmanager
def sigterm_noted() -> Iterator[Wish]:
    """While the context lasts, SIGTERM sets `asked` and does nothing else.

    Signals reach the main thread only; elsewhere (a test, a notebook's thread) it stays False.
    """
    wish = Wish(asked=False)
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(wish, "asked", True))
    try:
        yield wish
    finally:
        signal.signal(signal.SIGTERM, before)


class InterruptedAtCheckpoint(Exception):
    """Training stopped at a checkpoint because it was asked to; the same command continues."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at a checkpoint after step {step}; the same command continues")
