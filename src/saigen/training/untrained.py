"""What a loss depends on and nobody trains or keeps: parameters and buffers of the task, or in
plain attributes of the model, such as a list of layers.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from saigen.data.contract import Task, some_of
from saigen.errors import Refusal
from saigen.project_code import place_of
from saigen.training.state import same_bits


class Untrained:
    """Looks at what task and model hold before a loss is computed, and at its graph behind it."""

    def __init__(self, model: nn.Module, task: Task) -> None:
        self._task, self._own = task, {id(p) for p in model.parameters()}
        self._locations = {"task": place_of(type(task)), "model": place_of(type(model))}
        plain = vars(task) if hasattr(task, "__dict__") else {}
        whole = task if isinstance(task, nn.Module) else plain
        self._of_task = list(_held(whole, "task", set()))
        hidden = _held(model, "model", self._own | {id(b) for b in model.buffers()})
        self._held = {id(part): (name, part) for name, part in [*hidden, *self._of_task]}
        modules = [(name, part) for name, part in self._of_task if isinstance(part, nn.Module)]
        self._buffers = [
            (f"{name}.{key}", part, key, buffer.clone())
            for name, part in modules
            for key, buffer in part._buffers.items()
            if buffer is not None
        ]

    def warnings(self, loss: Tensor) -> list[str]:
        """What there is to say of the task. Raises Refusal if the loss hangs on what nobody trains,
        or has changed a buffer that nobody keeps.
        """
        reached = {id(leaf): leaf for leaf in leaves(loss)}
        for one, leaf in reached.items():
            if one not in self._own and (one in self._held or isinstance(leaf, nn.Parameter)):
                raise Refusal(
                    "the loss depends on a parameter that is not the model's: nobody trains it",
                    where=self._where(self._held[one][0] if one in self._held else ""),
                    expected="trainable tensors that are registered in the model",
                    got=f"a {type(leaf).__name__} {tuple(leaf.shape)} that wants a gradient",
                    fix="register it in the model (nn.Parameter, nn.ModuleList), and let the task "
                    "take it from there; or freeze it (requires_grad_(False))",
                )
        for name, module, key, before in self._buffers:
            now = module._buffers[key]
            if now is None or not same_bits(before, now):
                raise Refusal(
                    "the loss changes a buffer of the task, which no checkpoint keeps",
                    where=self._where(name),
                    expected="a task without state: what training changes is the model's",
                    got="other numbers after one microbatch",
                    fix="register the module in the model, or put it into evaluation mode",
                )
        wanting = [(n, p) for n, p in self._of_task if isinstance(p, Tensor) and p.requires_grad]
        idle = [name for name, p in wanting if p.is_leaf and id(p) not in reached]
        if not idle:
            return []
        return [
            f"the task holds parameters that want gradients ({some_of(idle)}), and nobody trains "
            "them: register them in the model, or freeze them (requires_grad_(False))"
        ]

    def _where(self, name: str) -> str:
        owner = self._locations.get(name.partition(".")[0])
        return f"{name} ({owner})" if owner else place_of(self._task.loss)


def _held(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Tensor | nn.Module]]:
    """Every tensor and module in a value, with the way to it: through containers, and through
    what modules register or have as plain attributes.
    """
    if id(value) in seen or not isinstance(value, Tensor | nn.Module | dict | list | tuple):
        return
    seen.add(id(value))
    if isinstance(value, Tensor | nn.Module):
        yield name, value
    within: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, nn.Module):
        plain = {n: v for n, v in vars(value).items() if n not in TORCH_S_OWN}
        within = (plain | value._parameters | value._buffers | value._modules).items()
    elif not isinstance(value, Tensor):
        within = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in within:
        yield from _held(part, f"{name}.{key}", seen)


def unused_parameters(names: Sequence[str]) -> str:
    """What there is to say of parameters that are trained and no loss depends on."""
    return (
        f"no loss of the first step depends on {len(names)} of the trained parameters "
        f"({some_of(names)}): their gradient is zero, and weight decay and momentum move them all "
        "the same; freeze them (optimizer.parameter_groups, frozen: true), or take them out"
    )


TORCH_S_OWN = frozenset(vars(nn.Module()))


def leaves(loss: Tensor) -> Iterator[Tensor]:
    """The tensors that would get a gradient."""
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(leaf := getattr(node, "variable", None), Tensor):
            yield leaf
        waiting += [following for following, _ in node.next_functions]
