"""Says where an operation without a deterministic kernel was called, and what may replace it.

torch refuses such an operation by its own name. In the forward pass the stack says who called it.
In the backward pass it does not: there the microbatch is computed once more while autograd keeps
the stack of each forward call (anomaly detection), and the node that began last is the one.
"""

import contextlib
import os
import re
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from saigen.errors import Refusal
from saigen.project_code import is_project

_REFUSED = re.compile(r"^(.+?) does not have a deterministic implementation")
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_REPLACEMENTS = {  # by a part of the operation's name; the first that fits is told
    "max_unpool": "nn.Upsample(mode='nearest') or nn.ConvTranspose2d",
    "upsample": "mode='nearest' on the way up, or resize in prepare",
    "grid_sampl": "a convolution, or resample in prepare",
    "reflection_pad": "zeros as padding, or pad in prepare",
    "pool3d": "a convolution with a stride",
    "adaptive_": "pooling with a fixed kernel_size and stride",
    "fractional_max_pool": "nn.MaxPool2d",
    "put_": "index_put_ with accumulate=True, or indexing in place of take",
    "scatter": "index_add_ of logarithms, or a product along a dimension",
    "histc": "torch.bucketize and a comparison with each bin",
    "bincount": "(one_hot(...) * weights[:, None]).sum(0)",
    "median": "torch.sort and the index",
    "cumsum": "a product with a triangular matrix",
    "nll_loss2d": "the loss over (pixels, classes): flatten the places first",
    "ctc_loss": "the loss on the CPU",
    "embedding_bag": "nn.Embedding and amax",
}


def explain(error: RuntimeError, model: torch.nn.Module, again: Callable[[], Any]) -> None:
    """Raise Refusal if torch refused a nondeterministic operation; otherwise do nothing.

    `again` computes the microbatch's loss once more, and over how many terms.
    """
    if not (refused := _REFUSED.match(str(error))):
        return
    operation = refused[1]
    frames = list(traceback.walk_tb(error.__traceback__))
    stack = [(frame.f_code.co_filename, line) for frame, line in frames]
    paths = {id(module): path for path, module in model.named_modules()}
    owners = [id(frame.f_locals.get("self")) for frame, _ in frames]
    module = next((paths[owner] for owner in owners[::-1] if owner in paths), None)
    backward = any(frame.f_code.co_qualname == "Step.backward" for frame, _ in frames)
    if backward or not any(is_project(file) for file, _ in stack):
        stack = _forward_stack(again)
    where = next((f"{os.path.relpath(f)}:{n}" for f, n in stack[::-1] if is_project(f)), None)
    module = _module(stack, model) if module is None else module
    replacement = next((r for part, r in _REPLACEMENTS.items() if part in operation), None)
    raise Refusal(
        f"the operation {operation} has no deterministic kernel",
        where=(where or "a line that could not be found")
        + (f", in module {module!r}" if module else ""),
        expected="the same bits each time (reproducibility.deterministic_algorithms)",
        got=operation,
        fix=(f"replace it: {replacement}; " if replacement else "replace it, ")
        + "or choose reproducibility=statistical",
    ) from error


def _forward_stack(again: Callable[[], Any]) -> list[tuple[str, int]]:
    """File and line of each caller of the forward operation whose backward pass was refused.

    Not from what anomaly detection says at the error: a device's thread prints that past Python.
    """
    begun: list[Any] = []
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            loss, _ = again()
        for node in _nodes(loss.grad_fn):
            node.register_prehook(partial(_began, begun, node))
        loss.backward()
    trace_text = "".join(begun[-1].metadata.get("traceback_", ())) if begun else ""
    return [(file, int(line)) for file, line in _FRAME.findall(trace_text)]


def _nodes(last: Any) -> list[Any]:
    """Every node of a graph, once."""
    found = {last}
    nodes = [last]
    for node in nodes:
        new = {before for before, _ in node.next_functions if before is not None} - found
        found |= new
        nodes += new
    return nodes


def _began(begun: list[Any], node: Any, _: Any) -> None:
    begun.append(node)


def _module(stack: list[tuple[str, int]], model: torch.nn.Module) -> str:
    """The path of the innermost module in whose `forward` the stack stands; several: with "or"."""
    for file, line in reversed(stack):
        paths = [path for path, module in model.named_modules() if _stands_in(module, file, line)]
        if paths:
            return " or ".join(paths)
    return ""


def _stands_in(module: torch.nn.Module, file: str, line: int) -> bool:
    code = getattr(type(module).forward, "__code__", None)
    if code is None or code.co_filename != file:
        return False
    last = max(n for *_, n in code.co_lines() if n is not None)
    return bool(code.co_firstlineno <= line <= last)
