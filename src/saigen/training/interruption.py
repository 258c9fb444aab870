"""SIGTERM, as schedulers send it: asked for at any time, answered at a step's end."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interruption:
    """While the context lasts, SIGTERM sets `asked` and does nothing else.

    Signals reach the main thread only; elsewhere (a test, a notebook's thread) it stays False.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        """Take SIGTERM over."""
        self._watching = threading.current_thread() is threading.main_thread()
        if self._watching:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give SIGTERM back."""
        if self._watching:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True


class InterruptedAtCheckpoint(Exception):
    """Training stopped at a checkpoint because it was asked to; the same command continues."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at a checkpoint after step {step}; the same command continues")
