"""Buffers: how BatchNorm's running statistics, and what else a model counts while it trains,
stay a function of the step and not of who computed which microbatch.

A step of one microbatch leaves the buffers as the forward pass made them. With several, every
microbatch starts from the buffers as they stood when the step began, and a rule says what becomes
of their values:

==== ===========================================================================================
mean the start plus the mean of the changes: running averages, such as BatchNorm's
sum  the start plus the sum of the changes: counts of samples
min  the smallest value
max  the largest value: counts of steps
same the one value that all microbatches agree on; if they do not, the run is refused
==== ===========================================================================================

torch's normalization layers have mean and max. A module says otherwise by an attribute, such as
``microbatch_reduction = {"lowest": "min"}``; everything else is held to `same`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from saigen.errors import Refusal
from saigen.training.layout import Kind

RULES = ("mean", "sum", "min", "max")
SAME = "same"


@dataclass(frozen=True)
class Buffer:
    """One buffer, in every place where the model has it."""

    name: str
    owners: list[tuple[nn.Module, str]]
    tensor: Tensor
    rule: str

    def adopt(self) -> None:
        """Copy what was assigned in its place, and put it back there."""
        for module, key in self.owners:
            now = module._buffers.get(key)
            if now is self.tensor:
                continue
            if now is None or now.shape != self.tensor.shape or now.dtype != self.tensor.dtype:
                raise _other_form(self, now)
            self.tensor.copy_(now.detach())
            module._buffers[key] = self.tensor


def buffers_to_reduce(model: nn.Module) -> list[Buffer]:
    """Every buffer, persistent or not, once."""
    found: dict[int, Buffer] = {}
    for prefix, module in model.named_modules():
        for key, tensor in module._buffers.items():
            if tensor is None:
                continue
            name = f"{prefix}.{key}".lstrip(".")
            buffer = found.setdefault(
                id(tensor), Buffer(name, [], tensor, _rule(module, key, name, tensor))
            )
            buffer.owners.append((module, key))
    return list(found.values())


def slots(buffer: Buffer) -> Iterator[tuple[str, Kind, Tensor]]:
    """What a buffer needs in the gradient buffer."""
    if buffer.rule in ("mean", "sum"):
        yield buffer.name, "buffer", buffer.tensor
    elif buffer.rule in ("min", "max"):
        yield buffer.name, "counter", buffer.tensor
    else:
        # all are the same where the largest of the bytes is the smallest of them
        for _ in ("largest", "smallest"):
            yield buffer.name, "counter", _bytes(buffer.tensor)


class StepBuffers:
    """Applies the rules to a flat model. A model without buffers costs nothing."""

    def __init__(self, reduced: list[tuple[Buffer, list[Tensor]]], microbatches: int) -> None:
        """Take the buffers and their places in the gradient buffer."""
        self._reduced = [(b, parts, torch.empty_like(b.tensor)) for b, parts in reduced]
        self._microbatches = microbatches
        self._differ: dict[str, Tensor] = {}

    def begin_step(self) -> None:
        """Remember the buffers as they stand, once a step."""
        for buffer, _, began in self._reduced:
            began.copy_(buffer.tensor)

    def end_microbatch(self) -> None:
        """Write what the microbatch did to the buffers into the gradient buffer, and undo it."""
        for buffer, parts, began in self._reduced:
            buffer.adopt()
            now = buffer.tensor
            if buffer.rule in ("mean", "sum"):
                # Unchanged is zero even where infinity stands.
                torch.sub(now, began, out=parts[0]).masked_fill_(now == began, 0)
            elif buffer.rule == SAME:
                torch.bitwise_not(parts[0].copy_(_bytes(now)), out=parts[1])
            else:
                parts[0].copy_(now if buffer.rule == "max" else _opposite(now))
            now.copy_(began)

    def end_step(self) -> None:
        """Take over the gradient buffer's totals over the step's microbatches."""
        for buffer, parts, _ in self._reduced:
            now, total = buffer.tensor, parts[0]
            if buffer.rule == SAME:
                differ = (total != ~parts[1]).any()
                seen = self._differ.get(buffer.name)
                self._differ[buffer.name] = differ if seen is None else seen | differ
                now.copy_(total.view(now.dtype).view(now.shape))
            elif buffer.rule in ("mean", "sum"):
                now.add_(total.div_(self._microbatches) if buffer.rule == "mean" else total)
            else:
                now.copy_(total if buffer.rule == "max" else _opposite(total))

    def check(self) -> None:
        """Refuse if microbatches disagreed on a buffer; waits for the device."""
        for name, differ in self._differ.items():
            if differ:
                raise Refusal(
                    "the microbatches of a step disagree on a buffer",
                    where=f"model, {name!r}",
                    expected="a rule that says what becomes of several values, or one value",
                    got=f"other values from other ones of {self._microbatches} slices of the batch",
                    fix="set trainer.microbatches=1, or say in the module's class how they are "
                    f"merged: `microbatch_reduction = {{{name.rpartition('.')[2]!r}: 'mean'}}` (or "
                    "'sum', 'min', 'max')",
                )


def _rule(module: nn.Module, key: str, name: str, tensor: Tensor) -> str:
    rules_given = getattr(module, "microbatch_reduction", None)
    if rules_given and key in rules_given:
        rules = _possible(tensor.dtype)
        if (rule := str(rules_given[key])) in rules:
            return rule
        raise Refusal(
            "there is no such rule for a buffer",
            where=f"model, {name!r}: microbatch_reduction",
            expected=f"for {tensor.dtype} one of {', '.join(rules)}",
            got=repr(rules_given[key]),
            fix="choose one of them, or leave the buffer out and set trainer.microbatches=1",
        )
    if isinstance(module, _NormBase):
        return "mean" if tensor.is_floating_point() else "max"
    return SAME


def _possible(dtype: torch.dtype) -> tuple[str, ...]:
    if dtype.is_complex:
        return RULES[:2]
    if dtype == torch.bool:
        return RULES[2:]
    return RULES if dtype.is_floating_point else RULES[1:]


def _opposite(tensor: Tensor) -> Tensor:
    return -tensor if tensor.is_floating_point() else ~tensor


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def _other_form(buffer: Buffer, now: Tensor | None) -> Refusal:
    return Refusal(
        "a buffer changed its form while a step has several microbatches",
        where=f"model, {buffer.name!r}",
        expected=f"{(*buffer.tensor.shape, buffer.tensor.dtype)}, as when training began",
        got=f"{None if now is None else (*now.shape, now.dtype)}",
        fix="set trainer.microbatches=1, or keep the buffer's shape and data type",
    )
