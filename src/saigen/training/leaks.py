"""The leak watch: did anybody draw from a global generator while no stream was set?

Such a draw depends on what was drawn before it, so a resumed run would draw something else.
Between `arm` (the step's last stream is done) and `check` (the next one is about to be set) the
global generators must stand still. Their positions are compared, so no library has to be
patched and no caller can go around it, however it imported its functions.
"""

import ctypes
import os
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import torch

from saigen.project_code import is_project
from saigen.streams import cuda_generators

_Words = ctypes.c_uint32 * 5  # NumPy lays its state out so
_TorchWords = ctypes.c_uint32 * 10  # torch lays its state out so


class GlobalsWatch:
    """Counts, per generator, the step boundaries at which it had moved outside a stream.

    Costs 4 us per `arm` and `check` together (`bench/streams.py`). With ``locate``, and once after
    a boundary at which one moved, every line of Python that runs in between is followed
    (`sys.settrace`, this thread) until the first draw, which is then told in `first`: some hundred
    times slower, the same bits.
    """

    def __init__(self, *, locate: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.first: str | None = None  # file, line and function of the project's own code
        self._always = self._locate = locate
        self._tracer: _Tracer | None = None
        self._positions = _readers()
        self._before: list[object] | None = None

    def arm(self) -> None:
        """From here on, until `check`, nobody may draw from a global generator."""
        self._before = [read() for read in self._positions.values()]
        if self._locate and self.first is None:
            self._tracer = _Tracer(self._moved, sys._getframe(1))

    def check(self) -> tuple[str, ...]:
        """Return the generators that moved since `arm` (none if it was never called)."""
        if self._tracer is not None:
            self.first, self._tracer = self._tracer.stop(), None
        moved = self._moved()
        self._before = None
        if moved:  # to update with nothing takes a microsecond
            self.counts.update(moved)
        self._locate = self._always or bool(moved)
        return moved

    def warnings(self) -> list[str]:
        """What there is to say of draws outside of streams."""
        if not self.counts:
            return []
        often = ", ".join(f"{name} at {n} step boundaries" for name, n in self.counts.items())
        if self.first is None:
            often += "; tracking.leak_watch=locate names the line"
        where = f": {self.first}" if self.first else ""
        return [f"random numbers were drawn outside of streams ({often}){where}"]

    def _moved(self) -> tuple[str, ...]:
        now = [read() for read in self._positions.values()]
        if self._before is None or now == self._before:
            return ()
        pairs = zip(self._positions, self._before, now, strict=True)
        return tuple(name for name, old, new in pairs if old != new)


class _Tracer:
    """Follows execution line by line until a generator moves; the line before is the culprit."""

    def __init__(self, moved: Callable[[], tuple[str, ...]], frame: FrameType) -> None:
        """Trace this frame, its callers, and whatever they call."""
        self._draw: str | None = None
        self._moved = moved
        self._outer: Any = sys.gettrace()
        self._at = (frame, frame.f_lineno)
        self._stack = [caller for caller, _ in traceback.walk_stack(frame)]
        for caller in self._stack:
            caller.f_trace = self._event
        sys.settrace(self._event)

    def stop(self) -> str | None:
        """Look once more, leave the interpreter as it was, and tell the first draw."""
        sys.settrace(self._outer)
        for frame in self._stack:
            frame.f_trace = self._outer
        self._look()
        return self._draw

    def _event(self, frame: FrameType, event: str, _: Any) -> Any:
        self._look()
        if event == "return" and frame.f_back is not None:
            frame = frame.f_back
        self._at = (frame, frame.f_lineno)
        return self._event

    def _look(self) -> None:
        if self._draw is None and (moved := self._moved()):
            self._draw = _blame(moved[0], *self._at)


def _blame(generator: str, frame: FrameType, line: int) -> str:
    """Name the innermost frame of the project's own code, or the innermost one of all."""
    frames = [(frame, line), *((f, f.f_lineno) for f, _ in traceback.walk_stack(frame.f_back))]
    own = (at for at in frames if is_project(at[0].f_code.co_filename))
    inner, line = next(own, frames[0])
    code = inner.f_code
    return f"{os.path.relpath(code.co_filename)}:{line} ({code.co_qualname}) drew from {generator}"


def _readers() -> dict[str, Callable[[], object]]:
    """For each global generator a cheap way to read where it stands (0.1 to 1.1 us)."""
    readers: dict[str, Callable[[], object]] = {
        "random": _python_reader(),
        "numpy.random": _numpy_reader(),
        "torch": _torch_position,
    }
    for index, generator in enumerate(cuda_generators()):
        readers[f"torch.cuda:{index}"] = partial(_cuda_position, generator)
    return readers


def _python_reader() -> Callable[[], object]:
    """Read index and first words of `random`'s Mersenne Twister where CPython keeps them,
    behind the object's head (0.1 us; `getstate` takes 9). If another interpreter keeps them
    elsewhere, which is looked up and not assumed, `getstate` it is.
    """
    owner = random.random.__self__  # type: ignore[attr-defined]  # the module's hidden instance
    words = _Words.from_address(id(owner) + object.__basicsize__)
    version, state, _ = random.getstate()
    # Python names the layout of its state so
    if version == 3 and list(words) == [state[-1], *state[:4]]:
        return partial(bytes, words)
    return random.getstate


def _numpy_reader() -> Callable[[], object]:
    """Read the last words and the position of NumPy's global MT19937 (0.2 us) through the
    address that NumPy publishes; the struct is ``uint32 key[624]; int pos``.
    """
    generator = np.random.mtrand.get_bit_generator()
    # the last words of a Mersenne Twister lie there
    words = _Words.from_address(generator.ctypes.state_address + 4 * 620)

    def position() -> object:
        # Somebody may put another bit generator in its place: that is a move too.
        return np.random.mtrand.get_bit_generator() is generator, bytes(words)

    return position


def _torch_position() -> object:
    """Seed, position and first words of torch's CPU generator (1.1 us)."""
    state = torch.default_generator.get_state()
    return bytes(_TorchWords.from_address(state.data_ptr()))


def _cuda_position(generator: torch.Generator) -> object:
    """Seed and offset: both live on the host, so nothing waits for the device."""
    return generator.initial_seed(), generator.get_offset()
