"""Flat: a model whose weights and gradients each lie in one run of memory.

The model does not notice: its parameters become views. What touches all of them (the optimizer,
the tree, the fingerprint, clipping, a copy) becomes one operation instead of one per tensor: a
fused AdamW step on the digits MLP takes 33 us instead of 44 (`bench/flat.py`).
"""

from collections.abc import Sequence, Set
from itertools import pairwise

import torch
from torch import Tensor, nn

from saigen.digest import digest_value
from saigen.errors import Refusal
from saigen.training.buffers import Buffer, buffers_to_reduce, slots
from saigen.training.codec import extent, refuse_unfit
from saigen.training.layout import NO_GROUP, Block, Kind, Span, compute_layout
from saigen.training.model_state import live


class FlatModel:
    """Two flat buffers with one layout: `values` holds what the model is made of, `grad_buffer`
    what one microbatch adds to it.

    ============ =========================== =========================================
    kind         in `values`                 in `grad_buffer`
    ============ =========================== =========================================
    parameter    trainable weights           their gradients (`Parameter.grad`)
    buffer       nothing                     what is summed of buffers (`buffers.py`)
    counter      nothing                     that of which the largest is taken
    scalar       nothing                     float64 sums: of losses, of counts, ...
    ============ =========================== =========================================

    Frozen parameters and all buffers stay where they are; buffers have a place in the gradient
    buffer only where a step has several microbatches. Parameters are taken in the order of
    `named_parameters`; one that several modules share is taken once, under its first name.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        scalars: int,
        multiple: int,
        microbatches: int,
        groups: Sequence[Sequence[Tensor]] = (),
    ) -> None:
        """Move the model into flat buffers of a multiple of `multiple` bytes, with `scalars`
        float64 sums in a gradient buffer. `groups` are the optimizer's, where it makes more than
        one.
        """
        self.model = model
        _refuse_unfit(model)
        own, device = trainable(model), _one_device(model)
        number = dict.fromkeys(map(id, own.values()), NO_GROUP)
        number |= {id(p): index for index, group in enumerate(groups) for p in group}
        self._buffers = buffers_to_reduce(model) if microbatches > 1 else []
        items: list[tuple[str, Kind, Tensor]] = [(name, "parameter", p) for name, p in own.items()]
        items += [slot for buffer in self._buffers for slot in slots(buffer)]
        items.append(("", "scalar", torch.empty(scalars, dtype=torch.float64)))
        self.layout = compute_layout(items, multiple, {n: number[id(p)] for n, p in own.items()})
        self.values = self.layout.flat_buffer(device, "parameter")
        self.grad_buffer = self.layout.flat_buffer(device)
        self._spans = [span for span in self.layout.spans if span.kind == "parameter"]
        for span in self._spans:
            tensor, memory = own[span.name], span.of(self.values)
            memory.copy_(tensor.detach())
            tensor.data = memory
            tensor.grad = span.of(self.grad_buffer)
        self._blocks = self.layout.of_kind("parameter")
        # as real numbers, which is how all but the optimizer looks at complex ones
        self.weights = [_real(block.of(self.values)) for block in self._blocks]
        self.gradients = [_real(block.of(self.grad_buffer)) for block in self._blocks]
        self.scalars = self.layout.spans[-1].of(self.grad_buffer)
        named = [(span.name, str(span.dtype), span.shape) for span in self._spans]
        # a salt has 64 bits
        self.salt = int(digest_value(named)[:16], 16)  # of names, data types and shapes
        self.take_parts()

    def take_parts(self) -> None:
        """Take the model's parts as they are for those that must not change."""
        self._parts = parts(self.model)

    def parameters(self) -> list[tuple[str, Tensor, Tensor]]:
        """Each parameter's name, and the bytes of its weights and of its gradient, (bytes,)."""
        ranges = [(span.name, slice(span.start, span.stop)) for span in self._spans]
        return [(name, self.values[part], self.grad_buffer[part]) for name, part in ranges]

    def gradients_of(self, parameters: Set[int]) -> list[Tensor]:
        """The gradients of the parameters with these ids, (elements,) each, as real numbers."""
        own = dict(self.model.named_parameters())
        if parameters >= {id(own[span.name]) for span in self._spans}:
            return self.gradients
        spans = [span for span in self._spans if id(own[span.name]) in parameters]
        runs = [self.grad_buffer[span.start : span.stop].view(span.dtype) for span in spans]
        return [_real(run) for run in runs if run.numel()]

    def reduced_buffers(self) -> list[tuple[Buffer, list[Tensor]]]:
        """The buffers that a step's microbatches are merged into, and their places in the gradient
        buffer.
        """
        spans = iter(s for k in ("buffer", "counter") for s in self.layout.spans if s.kind == k)
        memory_of: dict[str, list[Tensor]] = {}
        for span in spans:
            memory_of.setdefault(span.name, []).append(span.of(self.grad_buffer))
        return [(buffer, memory_of[buffer.name]) for buffer in self._buffers]

    def held(self, *, one_tensor: bool) -> dict[str, nn.Parameter]:
        """Return what the optimizer shall hold, by name.

        With `one_tensor`, one flat Parameter per group and data type: right for every optimizer
        that treats elements alike (SGD, Adam, Lion, ...), and the fastest. Without, the model's own
        parameters: for those that look at rows, columns or norms (LARS, Shampoo, Muon, ...).
        The choice belongs to the recipe: torch's fused CPU kernels round the last elements of a
        tensor differently from the others, so the two differ by an ulp here and there.
        """
        if not one_tensor:
            own = dict(self.model.named_parameters())
            return {span.name: own[span.name] for span in self._spans}
        runs = {}
        for name, block in self._runs().items():
            run = runs[name] = nn.Parameter(block.of(self.values))
            run.grad = block.of(self.grad_buffer)
        return runs

    def names_of_group(self, group: int) -> list[str]:
        """The names of the flat tensors of one of the optimizer's groups."""
        return [name for name, block in self._runs().items() if block.group == group]

    def _runs(self) -> dict[str, Block]:
        several = len({block.group for block in self._blocks}) > 1
        head = {b: f"group{'_none' if b.group == NO_GROUP else b.group}" for b in self._blocks}
        return {
            f"{head[b] if several else 'all'}.{str(b.dtype).removeprefix('torch.')}": b
            for b in self._blocks
        }

    def check(self) -> None:
        """Refuse if a parameter has left its place, where the flat buffers would miss it (1 us
        each), or if the model has other parts than it had.
        """
        now = dict(self.model.named_parameters())
        for span in self._spans:
            tensor = now.get(span.name)
            if tensor is None or _elsewhere(tensor, self.values, span):
                raise replaced(span.name, *VALUES)
            if tensor.grad is None or _elsewhere(tensor.grad, self.grad_buffer, span):
                raise replaced(span.name, "gradient", "zero gradients in place, not to None")
        refuse_other_parts(self.model, self._parts)


def refuse_other_parts(model: nn.Module, began: frozenset[str]) -> None:
    """Refuse if the model has other parts than those that it began with."""
    if other := sorted(parts(model) ^ began):
        raise Refusal(
            "the model changed its parts while it trained",
            where=f"model, {other[0].rpartition(' ')[2]!r}",
            expected="the parameters and persistent buffers that it began with, trainable or "
            "frozen as they were",
            got=", ".join(other),
            fix="make all of them in the constructor; to thaw a part, name it in "
            "optimizer.parameter_groups with frozen: STEP",
        )


def parts(model: nn.Module) -> frozenset[str]:
    """What must not change about the model's parts: names, and which are trainable."""
    parameters = {
        f"{'trainable' if p.requires_grad else 'frozen'} {name}"
        for name, p in model.named_parameters()
    }
    persistent = {
        f"buffer {f'{prefix}.{name}'.lstrip('.')}"
        for prefix, module in model.named_modules()
        for name in module._buffers
        if name not in module._non_persistent_buffers_set
    }
    return frozenset(parameters | persistent)


def _elsewhere(tensor: Tensor, flat_buffer: Tensor, span: Span) -> bool:
    return tensor.numel() > 0 and tensor.data_ptr() != flat_buffer.data_ptr() + span.start


def _real(block: Tensor) -> Tensor:
    return torch.view_as_real(block).view(-1) if block.is_complex() else block


def _refuse_unfit(model: nn.Module) -> None:
    """Raise Refusal if a tensor is not a plain one, or shares a part of another one's memory."""
    occupied: list[tuple[int, int, str, int]] = []
    for name, tensor in live(model).items():
        if tensor is None:
            continue
        refuse_unfit(f"model, {name!r}", tensor)
        if tensor.numel():
            occupied.append((*extent(tensor), name, id(tensor)))
    occupied.sort()
    for (_, stop, name, one), (start, _, other, two) in pairwise(occupied):
        if start < stop and one != two:
            raise Refusal(
                "two tensors of the model share memory without being one",
                where=f"model, {min(name, other)!r} and {max(name, other)!r}",
                expected="one Parameter or buffer in both places, or memory of their own",
                got="different tensors over the same memory, which would be torn apart",
                fix="assign the Parameter itself (`self.out.weight = self.embed.weight`), or clone",
            )


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name, in the model's order."""
    if own := {name: p for name, p in model.named_parameters() if p.requires_grad}:
        return own
    raise Refusal(
        "the model has nothing to train",
        where="model",
        expected="at least one trainable parameter",
        got=f"{len(list(model.parameters()))} parameters, all of them frozen",
        fix="unfreeze something",
    )


def _one_device(model: nn.Module) -> torch.device:
    devices = {tensor.device for tensor in live(model).values() if tensor is not None}
    if len(devices) == 1:
        return devices.pop()
    raise Refusal(
        "the model's weights are not on one device",
        where="model",
        expected="all parameters and buffers on one device",
        got=", ".join(sorted(map(str, devices))),
        fix="move the whole model to one device",
    )


VALUES = ("values", "change it in place (`copy_`, `add_`)")


def replaced(name: str, what: str, fix: str) -> Refusal:
    """What to raise where a parameter, or its gradient, is another tensor than it was."""
    return Refusal(
        f"the {what} of a parameter left the flat memory",
        where=f"model, {name!r}",
        expected="the tensor that the trainer laid out, changed in place",
        got="another tensor, which the optimizer and the trace would not see",
        fix=fix,
    )
