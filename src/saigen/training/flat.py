"""Flat: a model whose weights, gradients and buffers each lie in one run of memory.

The model does not notice: its parameters and buffers become views. What touches all of them
(the optimizer, the tree, the fingerprint, clipping, a copy) becomes one operation instead of one
per tensor: a fused AdamW step on the digits MLP takes 33 us instead of 44 (`bench/flat.py`).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from saigen.digest import digest_value
from saigen.refusal import Refusal
from saigen.training.layout import Item, Kind, Span, join, lay_out


class FlatModel:
    """Two arenas with one layout: `values` holds what the model is made of, `leaf` what one
    microbatch adds to it.

    ============ =========================== =========================================
    kind         in `values`                 in `leaf`
    ============ =========================== =========================================
    parameter    trainable weights           their gradients (`Parameter.grad`)
    buffer       persistent float buffers    their change (see `buffers.py`)
    counter      persistent integer buffers  their new value
    scalar       nothing                     float64 sums: of losses, of counts, ...
    ============ =========================== =========================================

    Frozen parameters and non-persistent buffers stay where they are: they are no state.
    Parameters are taken in the order of `named_parameters`; one that several modules share is
    taken once, under its first name.
    """

    def __init__(
        self,
        model: nn.Module,
        group_of: Callable[[str, Tensor], str],
        *,
        scalars: int,
        multiple: int,
    ) -> None:
        """Move the model into arenas.

        `group_of` names the optimizer group of a parameter; `scalars` is the number of float64
        sums kept in a leaf; an arena's length becomes a multiple of `multiple` bytes.
        """
        self.model = model
        parameters, buffers = _trainable(model), _persistent_buffers(model)
        tensors = parameters | buffers
        device = _one_device(tensors)
        items = [_item(n, "parameter", group_of(n, p), p) for n, p in parameters.items()]
        floats = [n for n, b in buffers.items() if b.is_floating_point()]
        items += [_item(n, "buffer", "", buffers[n]) for n in floats]
        items += [_item(n, "counter", "", b) for n, b in buffers.items() if n not in floats]
        items.append(Item("", "scalar", "", torch.float64, (scalars,), (1,)))
        self.layout = lay_out(items, multiple)
        self.values = self.layout.arena(device)
        self.leaf = self.layout.arena(device)
        self._spans = self.layout.spans[:-1]  # the last holds the scalars
        for span in self._spans:
            self._move_in(tensors[span.item.name], span)
        weights = self.layout.of_kind("parameter")
        self.weights = [block.of(self.values) for block in weights]
        self.gradients = [block.of(self.leaf) for block in weights]
        self.scalars = self.layout.spans[-1].of(self.leaf)
        named = [(s.item.name, str(s.item.dtype), s.item.shape) for s in self._spans]
        # saigen: constant, because a salt has 64 bits
        self.salt = int(digest_value(named)[:16], 16)  # of names, data types and shapes

    def parameters(self) -> list[tuple[str, Tensor, Tensor]]:
        """Each parameter's name, and the bytes of its weights and of its gradient, (bytes,)."""
        spans = [span for span in self._spans if span.item.kind == "parameter"]
        places = [(span.item.name, slice(span.start, span.stop)) for span in spans]
        return [(name, self.values[place], self.leaf[place]) for name, place in places]

    def groups(self, *, one_tensor: bool) -> dict[str, dict[str, nn.Parameter]]:
        """Return for each optimizer group what the optimizer shall hold, by name.

        With `one_tensor`, one flat Parameter per data type: right for every optimizer that
        treats elements alike (SGD, Adam, Lion, ...), and the fastest. Without, the model's own
        parameters: for those that look at rows, columns or norms (LARS, Shampoo, Muon, ...).
        The choice belongs to the recipe: torch's fused CPU kernels round the last elements of a
        tensor differently from the others, so the two differ by an ulp here and there.
        """
        members: dict[str, list[Span]] = {}
        for span in self._spans:
            if span.item.kind == "parameter":
                members.setdefault(span.item.group, []).append(span)
        if one_tensor:
            return {group: self._runs(group, spans) for group, spans in members.items()}
        own = dict(self.model.named_parameters())
        return {g: {s.item.name: own[s.item.name] for s in spans} for g, spans in members.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Return every persistent tensor by name, frozen ones too, one name for shared ones.

        They are the model's own memory, detached: clone what must outlive the next step.
        """
        seen: dict[int, str] = {}
        named: dict[str, Tensor] = {}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            if seen.setdefault(id(tensor), name) == name:
                named[name] = tensor.detach()
        return named

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy saved tensors into place; refuse any that is missing, unknown or of another form."""
        here = self.tensors()
        for name in sorted(here.keys() | tensors.keys()):
            expected, got = _form(here.get(name)), _form(tensors.get(name))
            if expected != got:
                raise Refusal(
                    "a saved tensor does not fit the model",
                    where=f"tensor {name!r}",
                    expected=expected,
                    got=got,
                    fix="build the model from the configuration that the tensors were saved with",
                )
        for name, tensor in here.items():
            tensor.copy_(tensors[name])

    def check(self) -> None:
        """Refuse if a tensor has left its place, where the arenas would miss it (1 us each)."""
        now = _trainable(self.model) | _persistent_buffers(self.model)
        for span in self._spans:
            tensor = now.get(span.item.name)
            if tensor is None or tensor.data_ptr() != self.values.data_ptr() + span.start:
                raise _moved(span, "values", "change it in place (`copy_`, `add_`)")
            if span.item.kind == "parameter" and (
                tensor.grad is None or tensor.grad.data_ptr() != self.leaf.data_ptr() + span.start
            ):
                raise _moved(span, "gradient", "zero gradients in place, not to None")

    def _runs(self, group: str, spans: list[Span]) -> dict[str, nn.Parameter]:
        """One flat Parameter for each data type of a group."""
        runs = {}
        for block in join(spans):
            run = nn.Parameter(block.of(self.values))
            run.grad = block.of(self.leaf)
            runs[f"{group}.{str(block.dtype).removeprefix('torch.')}"] = run
        return runs

    def _move_in(self, tensor: Tensor, span: Span) -> None:
        """Copy a tensor into its place, and make the place its memory."""
        place = span.of(self.values)
        place.copy_(tensor.detach())
        tensor.data = place
        if span.item.kind == "parameter":
            tensor.grad = span.of(self.leaf)


def _trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a checkpoint holds, a shared one once."""
    saved = model.state_dict(keep_vars=True).keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in saved}


def _item(name: str, kind: Kind, group: str, tensor: Tensor) -> Item:
    """Ask for a place of the tensor's own form. Kernels, and so bits, may depend on strides:
    those of a dense tensor (contiguous, channels last) are kept.
    """
    stride = torch.empty_like(tensor).stride()
    return Item(name, kind, group, tensor.dtype, tuple(tensor.shape), stride)


def _one_device(tensors: Mapping[str, Tensor]) -> torch.device:
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) == 1:
        return devices.pop()
    raise Refusal(
        "the model's weights are not on one device",
        where="model",
        expected="at least one trainable parameter, everything on one device",
        got=", ".join(sorted(map(str, devices))) or "no trainable parameter and no buffer",
        fix="move the whole model to one device; unfreeze something",
    )


def _form(tensor: Tensor | None) -> str:
    # saigen: constant, because it is said in a message only
    return "nothing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"


def _moved(span: Span, what: str, fix: str) -> Refusal:
    return Refusal(
        f"the {what} of a {span.item.kind} left the flat memory",
        where=f"model, {span.item.name!r}",
        expected="the tensor that the trainer laid out, changed in place",
        got="another tensor, which the optimizer and the trace would not see",
        fix=fix,
    )
