"""A model's state: all of it, for a checkpoint; and what `state_dict` keeps, for a model folder."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saigen.errors import Refusal
from saigen.streams import Streams
from saigen.training.codec import Decoder, Encoder, refuse_unfit
from saigen.training.evaluation import evaluating

_EXTRA = "_extra_state"  # torch's own name


def live(model: nn.Module) -> dict[str, Tensor | None]:
    """Every parameter and buffer, persistent or not, under each module's first name, as it stands
    now; None for a buffer that is None.
    """
    named: dict[str, Tensor | None] = {}
    for prefix, module in model.named_modules():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None or name in module._buffers:
                named[f"{prefix}.{name}".lstrip(".")] = tensor
    return named


def extra(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that keep more than tensors, by name."""
    own = nn.Module.get_extra_state
    return {n: m for n, m in model.named_modules() if type(m).get_extra_state is not own}


def restore_live(model: nn.Module, tensors: Mapping[str, Tensor | None]) -> None:
    """Put in place what is not there yet: the buffers that training assigned anew."""
    now = live(model)
    for name, tensor in tensors.items():
        if name not in now or now[name] is not tensor:
            prefix, _, key = name.rpartition(".")
            module = model.get_submodule(prefix)
            if key in module._buffers:
                module._buffers[key] = tensor
            else:
                module.register_buffer(key, tensor, persistent=False)


def exported(model: nn.Module) -> dict[str, Tensor]:
    """What `state_dict` keeps, as tensors: one name for shared ones, extra state as JSON in bytes.

    They are the model's own memory, detached: clone what must outlive the next step.
    """
    seen: dict[int, str] = {}
    named: dict[str, Tensor] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and not name.endswith(_EXTRA):
            if seen.setdefault(id(value), name) == name:
                real = value.dtype == torch.complex128  # for which safetensors has no word
                named[name] = torch.view_as_real(value.detach()) if real else value.detach()
            continue
        encoder = Encoder({})
        form = json.dumps(encoder.encode(value, name)).encode()
        parts = {f"{name}.{path}": tensor for path, tensor in encoder.tensors.items()}
        named |= {name: torch.frombuffer(bytearray(form), dtype=torch.uint8), **parts}
    return named


def load_exported(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what `exported` gave into a model of the same kind, lazy ones and resized or late
    buffers included.
    """
    fresh = model.state_dict(keep_vars=True)
    first: dict[int, str] = {}
    state: dict[str, Any] = {}
    for name, value in fresh.items():
        if name in tensors:
            first.setdefault(id(value), name)
        if id(value) not in first:
            continue
        kept = name if name in tensors else first[id(value)]
        if name.endswith(_EXTRA):
            parts = {n[len(name) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{name}.")}
            form = json.loads(bytes(tensors[name].numpy()))
            state[name] = Decoder(parts, {}, torch.device("cpu")).decode(form)
            continue
        state[name] = _as_in(value, tensors[kept])
    if hasattr(fresh, "_metadata"):  # versions, by which modules know their own state
        state = _with_metadata(state, fresh._metadata)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise Refusal(
            "the saved weights do not fit the model",
            where=type(model).__name__,
            expected="a model built as the one that was trained",
            got=str(error),
            fix="build the same parameters and buffers from the same config, in the constructor",
        ) from error


def _as_in(value: Tensor, saved: Tensor) -> Tensor:
    """A saved tensor in the form of the one it is copied into, which gets room for it; in memory
    of its own, and no view, because a module may keep it (observers do, and detach it in place).
    """
    saved = saved.clone()
    if value.dtype == torch.complex128:
        saved = torch.view_as_complex(saved)
    if nn.parameter.is_lazy(value):
        return saved
    resized = not isinstance(value, nn.Parameter) and value.shape != saved.shape
    if resized or 0 in value.stride():  # of an expanded tensor, many places are one
        value.data = torch.empty_like(saved, device=value.device)
    return saved


def _with_metadata(state: dict[str, Any], metadata: Any) -> Any:
    from collections import OrderedDict

    ordered: Any = OrderedDict(state)
    ordered._metadata = metadata
    return ordered


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on a device. Raises Refusal if a part of it has no memory, or hides it."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise Refusal(
                "a part of the model is a program of TorchScript, which holds its tensors itself",
                where=f"model, {name!r}",
                expected="modules of Python",
                got=f"{type(module).__name__} of {module.original_name}",
                fix="put the module itself there; hardware.compile=true makes it quick",
            )
    for name, tensor in live(model).items():
        if tensor is not None and tensor.is_meta:
            refuse_unfit(f"model, {name!r}", tensor)
    return model.to(device)


def materialize(model: nn.Module, forward: Callable[[], object], streams: Streams) -> None:
    """Give lazy modules their shapes and first values: one forward pass in evaluation mode, with
    the `init` stream. Raises Refusal if some stay without.
    """
    if not any(map(nn.parameter.is_lazy, (*model.parameters(), *model.buffers()))):
        return
    streams.set_globals("init", 2)  # 0 built the model, 1 the task
    with evaluating(model):
        forward()
    left = [name for name, t in live(model).items() if t is not None and nn.parameter.is_lazy(t)]
    if left:
        raise Refusal(
            "a lazy module has no shape after a forward pass",
            where=f"model, {left[0]!r}",
            expected="a forward pass that goes through every lazy module",
            got="a parameter or buffer without a shape",
            fix="give the module its sizes, or leave it out",
        )


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """What a weights file holds: safetensors."""
    from safetensors.torch import save

    form = torch.contiguous_format
    whole = {name: t.detach().cpu().clone(memory_format=form) for name, t in tensors.items()}
    return save(whole)


def refuse_unfit_modules(model: nn.Module) -> None:
    """Raise Refusal if a part of the model would talk to other processes by itself."""
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise Refusal(
                "SyncBatchNorm takes its statistics over processes, in whose number the bits would "
                "then depend",
                where=f"model, {name!r}",
                expected="a norm over its microbatch, such as torch.nn.BatchNorm2d",
                got="torch.nn.SyncBatchNorm",
                fix="use torch.nn.BatchNorm1d, 2d or 3d: their statistics are of a microbatch, on "
                "however many processes; larger ones are of larger microbatches "
                "(trainer.microbatches)",
            )
