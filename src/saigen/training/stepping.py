"""The optimizer's own step, without what torch wraps around it.

`Optimizer.step` opens a profiler range and imports the compiler (1.5 s at the first step) only to
tell it to stay out. Where nothing is compiled, neither is wanted at a step of 0.2 ms.
"""

import inspect
from collections.abc import Callable

import torch


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """The step of an optimizer, to be called without gradients enabled. Step hooks do not run."""
    step = inspect.unwrap(type(optimizer).step)
    return lambda: step(optimizer)


def leave_the_compiler_out() -> None:
    """Keep torch.optim's other methods from importing the compiler, too.

    `torch._disable_dynamo` wraps some of them and imports torch._dynamo at their first call; the
    attribute is where it remembers that it did.
    """
    for method in vars(torch.optim.Optimizer).values():
        wrapped = getattr(method, "__wrapped__", None)
        if wrapped is not None and wrapped.__module__ == "torch.optim.optimizer":
            setattr(wrapped, "__dynamo_disable", wrapped)
