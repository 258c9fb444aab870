"""Watches one step operation by operation: what went in, what came out, in which module, where."""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from saigen.streams import Streams

# Whose first argument is only written to: what stood in it before is no input.
WRITERS = ("bernoulli_", "normal_", "uniform_", "random_", "exponential_", "copy_", "fill_",
           "zero_", "set_")  # fmt: skip


def watch(step: int, log: Path, root: Path) -> None:
    """Watch a step (or, with -1, the construction of the model), then end this process."""
    watcher = _Watcher(log, str(root.resolve()) + "/src/")
    set_globals: Callable[..., None] = Streams.set_globals
    begun = False  # a step

    def watched(self: Streams, name: str, *indices: int) -> None:
        nonlocal begun
        set_globals(self, name, *indices)
        now = indices[0] if name == "dropout" else None
        if now is not None and not begun:
            begun = True
            watcher.note({"begun": now})
        if now == step or (name == "init" and step < 0):
            watcher.begin()
        elif now is not None and now > step:
            os._exit(0)

    Streams.set_globals = watched  # type: ignore[method-assign,unused-ignore]


class _Watcher(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Logs every operation below autograd, and the module in which it is."""

    def __init__(self, log: Path, source: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log = log.open("w", encoding="utf-8")
        self._source = source
        self._tracker = ModuleTracker()
        self._running = False

    def note(self, entry: Mapping[str, Any]) -> None:
        """Write one line of the log, for others to read."""
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()

    def begin(self) -> None:
        """From here on; called again, it goes on."""
        if not self._running:
            self._running = True
            self._tracker.__enter__()  # type: ignore[no-untyped-call]
            self.__enter__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").removesuffix(".default")
        before = _digests((args[1:] if name.split(".")[0] in WRITERS else args, kwargs))
        result = func(*args, **(kwargs or {}))
        if "empty" not in name:  # what stands in fresh memory is nobody's output
            after = _digests((result, _written(func, args, kwargs or {})))
            around = max(self._tracker.parents - {"Global"}, key=len, default="")
            module = around.replace(around.partition(".")[0], "model", 1) if around else None
            self.note({"name": name, "in": before, "out": after, "line": self._line(),
                       "module": module})  # fmt: skip
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch wraps `__torch_dispatch__`, which imports the compiler (4 s) to tell it
        to stay out. Nothing is compiled here.
        """
        return False

    def _line(self) -> str:
        """The innermost line of the project's own code on the stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self._source) and not file.startswith(self._source + "saigen/"):
                return f"src/{file.removeprefix(self._source)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The arguments that an operation writes to: a fused optimizer returns nothing."""
    named = func._schema.arguments
    values = {**dict(zip((argument.name for argument in named), args, strict=False)), **kwargs}
    return [
        values[argument.name]
        for argument in named
        if argument.alias_info and argument.alias_info.is_write and argument.name in values
    ]


def _digests(values: Any) -> list[str]:
    """A digest (#...) for each tensor in some arguments or results; numbers stand as they are."""
    found: list[str] = []
    with torch.utils._python_dispatch._disable_current_modes():
        for value in torch.utils._pytree.tree_leaves(values):
            if isinstance(value, torch.Tensor):
                content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                head = f"{value.dtype}{tuple(value.shape)}".encode()
                state = hashlib.blake2b(head + content.tobytes(), digest_size=6)
                found.append(f"#{state.hexdigest()}")
            elif isinstance(value, bool | int | float | str):
                found.append(repr(value))
    return found
