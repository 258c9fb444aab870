"""The observer: what each line of the project's own code did, as digests of its variables.

Two processes that ought to do the same leave two logs; the first call with equal arguments and
other variables is where they part (`locate.py`). Only files below src/ that are not the
instrument's are followed, so what the libraries do shows in the line that called them.
"""

import collections
import hashlib
import itertools
import json
import multiprocessing
import os
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

_DEPTH = 5  # of containers and objects within each other
_ELEMENTS = 64  # of a container, from each end
_BYTES = 1 << 16  # of an array, from each end
_WEIGHTS = 256  # of a tensor of weights, from each end
WEIGHTS = " (weights)"  # behind the name of a module
_LINES = 3000  # of one call
# packages whose objects are not looked into: libraries, and what is in the midst of something
_OPAQUE = {"builtins", "_io", "torch", "numpy", "saigen", "concurrent", "threading", "queue",
           "asyncio", "multiprocessing", "subprocess", "logging"}  # fmt: skip
_CALLS = 40_000  # of one process; what comes after is not followed


class Observer:
    """Follows this thread, and the processes that are forked from it; writes one line a call."""

    def __init__(self, log: Path, root: Path) -> None:
        self._log = log
        self._root = str(root.resolve())
        self._file: TextIO | None = None
        self._process = 0
        self._calls = 0
        self._frozen: dict[int, tuple[Any, str]] = {}

    def start(self) -> None:
        """From here on."""
        sys.settrace(self._enter)

    def _enter(self, frame: types.FrameType, *_: object) -> Callable[..., Any] | None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        source = self._root + "/src/"
        if not file.startswith(source) or file.startswith(source + "saigen/"):
            return None
        if name.startswith("<") and name not in ("<module>", "<lambda>"):
            return None  # a comprehension: its result shows in the line that holds it
        self._calls += 1
        return self._follow(frame) if self._calls <= _CALLS else None

    def _follow(self, called: types.FrameType) -> Callable[..., Any]:
        """What is called after each line of one call."""
        arguments = before = self.variables(called)
        line, lines = called.f_lineno, list[tuple[int, dict[str, str]]]()
        step: int | None = None

        def entry(frame: types.FrameType) -> dict[str, Any]:
            file = os.path.relpath(frame.f_code.co_filename, self._root)
            return {"file": file, "function": frame.f_code.co_qualname, "line": line, "step": step,
                    "arguments": arguments, "lines": lines}  # fmt: skip

        def follow(frame: types.FrameType, event: str, value: Any) -> Callable[..., Any]:
            nonlocal arguments, before, line, lines, step
            if event != "exception" and len(lines) < _LINES:
                now = self.variables(frame)
                lines.append((line, {n: d for n, d in now.items() if before.get(n) != d}))
                before = now
            if event != "exception":
                line = frame.f_lineno
            if event == "return":
                self._write({**entry(frame), "returns": self.digest(value)})
            elif (number := _step_of(frame)) != step:  # a training loop: each step stands alone
                self._write({**entry(frame), "returns": ""})
                arguments, lines, step = before, [], number
            return follow

        return follow

    def _write(self, entry: dict[str, Any]) -> None:
        """Append to the log of this process."""
        if self._file is None or self._process != os.getpid():
            self._process = os.getpid()
            name = multiprocessing.current_process().name
            path = Path(f"{self._log}.{name}.{self._process}")
            self._file = path.open("w", encoding="utf-8")
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def variables(self, frame: types.FrameType) -> dict[str, str]:
        """A digest for each variable: local; of the enclosing function (`closure n`); of the file
        (`global n`); and for each plain attribute, and the weights, of `self` and of a module.
        """
        found: dict[str, str] = {}
        outer = frame.f_code.co_freevars
        for name, value in frame.f_locals.items():
            if name == "self" or _is_module(value):
                for part, content in _parts(value):
                    found[f"{name}{part}"] = self.digest(content)
            elif name[:2] != "__":
                found[f"closure {name}" if name in outer else name] = self.digest(value)
        for name in frame.f_code.co_names:
            if name in frame.f_globals and _remembers(value := frame.f_globals[name]):
                found[f"global {name}"] = self.digest(getattr(value, "__dict__", value))
        return found

    def digest(self, value: Any) -> str:
        """Eight hex digits of a value; equal values in two processes give equal digests."""
        if id(value) in self._frozen:
            return self._frozen[id(value)][1]
        state = hashlib.blake2b(digest_size=4)
        self._feed(state.update, value, 0)
        result = state.hexdigest()
        if getattr(getattr(value, "flags", None), "writeable", True) is False:
            self._frozen[id(value)] = (value, result)  # an array that stays as it is, and alive
        return result

    def _feed(self, update: Callable[[bytes], None], value: Any, depth: int) -> None:
        update(type(value).__name__.encode() + b"\0")
        if value is None or depth > _DEPTH:
            return
        if isinstance(value, str | os.PathLike):
            update(str(value).replace(self._root, "<root>").encode(errors="surrogatepass"))
        elif isinstance(value, bytes | bytearray):
            update(bytes(value).replace(self._root.encode(), b"<root>"))
        elif isinstance(value, bool | int | float | complex):
            update(repr(value).encode())
        elif isinstance(value, Mapping):
            self._several(update, [part for pair in value.items() for part in pair], depth)
        elif isinstance(value, set | frozenset):
            update(b"".join(sorted(self.digest(part).encode() for part in value)))
        elif isinstance(value, list | tuple | collections.deque):
            self._several(update, value, depth)
        else:
            self._object(update, value, depth)

    def _several(self, update: Callable[[bytes], None], parts: Any, depth: int) -> None:
        update(str(len(parts)).encode())
        shown = list(parts)
        if len(shown) > 2 * _ELEMENTS:
            shown = [*shown[:_ELEMENTS], *shown[-_ELEMENTS:]]
        for part in shown:
            self._feed(update, part, depth + 1)

    def _object(self, update: Callable[[bytes], None], value: Any, depth: int) -> None:
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        if torch is not None and isinstance(value, torch.Tensor):
            if value.device.type == "meta" or value.is_sparse:
                return
            value = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
            array = numpy.asarray(value)
            update(f"{array.dtype}{array.shape}".encode())
            content = (array.ravel()[:_BYTES].tobytes(), array.ravel()[-_BYTES:].tobytes())
            update(content[0] + content[1] if array.dtype != object else b"")
        elif torch is not None and isinstance(value, torch.nn.Module):
            self._feed(update, [_sample(value), _plain(value)], depth + 1)
        elif torch is not None and isinstance(value, torch.Generator):
            update(bytes(value.get_state().numpy()))
        elif numpy is not None and isinstance(value, numpy.random.Generator):
            self._feed(update, value.bit_generator.state, depth + 1)
        elif _is_stateful(value):  # optimizers and schedulers; of one's own what it really holds
            self._feed(update, value.state_dict(), depth + 1)
        elif isinstance(value, itertools.count):
            update(repr(value).encode())
        elif isinstance(value, random.Random):
            self._feed(update, value.getstate(), depth + 1)
        elif not isinstance(value, type | types.ModuleType) and not callable(value):
            module = type(value).__module__.partition(".")[0]
            if module not in _OPAQUE:
                self._feed(update, getattr(value, "__dict__", None), depth + 1)


def _step_of(frame: types.FrameType) -> int | None:
    """The number of the step that a training loop is in; None if the frame is in none."""
    kind = getattr(sys.modules.get("saigen.training.step"), "Step", None)
    if kind is None:
        return None
    found = (value for value in frame.f_locals.values() if isinstance(value, kind))
    return getattr(next(found, None), "number", None)


def _is_stateful(value: Any) -> bool:
    """Whether a library's object tells its state; a project's own may leave something out of it."""
    library = type(value).__module__.partition(".")[0] in _OPAQUE
    return library and hasattr(value, "load_state_dict") and not isinstance(value, type)


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object remembers: attributes, those of its own classes, and a module's weights."""
    for own in reversed(type(value).__mro__):
        if own.__module__.partition(".")[0] not in _OPAQUE:
            for name, content in vars(own).items():
                if name[:2] != "__" and _is_plain(content):
                    yield f".{name}", content
    if hasattr(value, "__dict__"):
        yield from ((f".{name}", content) for name, content in _plain(value).items())
    if _is_module(value):
        yield WEIGHTS, _sample(value)


def _is_plain(value: Any) -> bool:
    """Whether a value is data, and no function, class, or descriptor."""
    return isinstance(value, bool | int | float | str | bytes | list | dict | set | tuple) or (
        type(value).__module__.partition(".")[0] in ("collections", "itertools", "torch", "numpy")
        and not callable(value)
        and not hasattr(value, "__get__")
    )


def _remembers(value: Any) -> bool:
    """Whether a name of a file may hold something that a later call finds changed."""
    if isinstance(value, types.FunctionType):
        return bool(value.__dict__) and not hasattr(value, "__wrapped__")
    if isinstance(value, type | types.ModuleType) or callable(value):
        return False
    return _is_plain(value) or type(value).__module__.partition(".")[0] not in (
        *_OPAQUE, *sys.stdlib_module_names)  # fmt: skip


def _plain(value: Any) -> dict[str, Any]:
    """The attributes of an object that are not a module's own bookkeeping."""
    own = ("_parameters", "_modules", "_buffers")
    return {n: part for n, part in vars(value).items() if n not in own and "hooks" not in n}


def _sample(module: Any) -> list[Any]:
    """Some weights of each tensor of a module: an update moves nearly all of them."""
    if "_modules" not in vars(module):
        return []  # its constructor has not come to super().__init__() yet
    tensors = [t.detach().flatten() for t in (*module.parameters(), *module.buffers())]
    return [part for tensor in tensors for part in (tensor[:_WEIGHTS], tensor[-_WEIGHTS:])]
