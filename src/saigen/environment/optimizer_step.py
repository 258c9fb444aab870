"""The optimizer's own step, without what torch wraps around it.

`Optimizer.step` opens a profiler range and imports the compiler (1.5 s at the first step) only to
tell it to stay out. Where nothing is compiled, neither is wanted at a step of 0.2 ms.
"""

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch.optim import optimizer as module

WATCHED = "_wrapped_by_lr_sched"  # torch's own name


def unwatch(optimizer: torch.optim.Optimizer) -> None:
    """Take off what a scheduler of torch put on the step, only to see that it was called."""
    if hasattr(vars(optimizer).get("step"), WATCHED):
        del vars(optimizer)["step"]


def bare_step(optimizer: torch.optim.Optimizer) -> Callable[..., object]:
    """The step of an optimizer, to be called without gradients enabled.

    Only torch's own wrappers are left out, and only where no hook and no other step was put on
    the optimizer.
    """
    own = type(optimizer).step
    if hooked(optimizer):
        hooked_step: Callable[..., object] = optimizer.step
        return hooked_step
    # torch's own classes carry two wrappers, a project's class the one that every class gets
    whole = type(optimizer).__module__.startswith("torch.optim.")
    step = inspect.unwrap(own) if whole else vars(own)["__wrapped__"]
    return partial(step, optimizer)


def hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether somebody put a step or a hook of its own on the optimizer."""
    hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    everywhere = module._global_optimizer_pre_hooks, module._global_optimizer_post_hooks
    return "step" in vars(optimizer) or any((*hooks, *everywhere))


def leave_the_compiler_out() -> None:
    """Keep torch.optim's other methods from importing the compiler, too.

    `torch._disable_dynamo` wraps some of them and imports torch._dynamo at their first call; the
    attribute is where it remembers that it did.
    """
    for method in vars(torch.optim.Optimizer).values():
        wrapped = getattr(method, "__wrapped__", None)
        if wrapped is not None and wrapped.__module__ == "torch.optim.optimizer":
            setattr(wrapped, "__dynamo_disable", wrapped)
