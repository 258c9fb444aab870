"""Codec: nested state as named tensors and JSON values, without pickle, and back to the bit.

It holds dicts, lists, tuples, None, bools, ints, floats, complex numbers, texts, tensors, NumPy
arrays and scalars, and torch's data types and devices. What it cannot hold is refused by its
path. Two paths to one memory stay one memory.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from saigen.errors import Refusal

Form: TypeAlias = Any  # what JSON can hold: a scalar as it is, everything else {kind: content}

_DICTS = (dict, OrderedDict, defaultdict)
# safetensors has no word for these: their bits are kept as integers
_AS_BITS = {torch.complex128: torch.float64}


class Encoder:
    """Collects `tensors` by name while it turns values into forms.

    `known` are tensors that whoever decodes has already, such as a model's parameters.
    """

    def __init__(self, known: Mapping[str, Tensor]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known = {id(tensor): name for name, tensor in known.items()}
        self._seen: dict[Any, Form] = {
            _memory(tensor): {"known": name, "detached": True} for name, tensor in known.items()
        }
        self._ranges: list[tuple[int, int, str]] = []
        for name, tensor in known.items():
            self.occupy(tensor, name)

    def occupy(self, tensor: Tensor, name: str) -> None:
        """Refuse what shares memory with this tensor from here on."""
        if tensor.numel():
            self._ranges.append((*extent(tensor), name))

    def encode(self, value: Any, path: str) -> Form:
        """The form of a value. Raises Refusal, by path, if there is none."""
        if value is None or type(value) in (bool, int, str):
            return value if type(value) is not int or abs(value) < 2**63 else {"int": hex(value)}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if type(value) in _DICTS:
            return {"dict": [self._pair(key, item, path) for key, item in value.items()]}
        if type(value) in (list, tuple):
            kind = type(value).__name__
            return {kind: [self.encode(item, f"{path}.{n}") for n, item in enumerate(value)]}
        return self._leaf(value, path)

    def _leaf(self, value: Any, path: str) -> Form:
        if type(value) is float:
            return {"float": value.hex()}
        if type(value) is complex:
            return {"complex": [value.real.hex(), value.imag.hex()]}
        if isinstance(value, torch.dtype | torch.device):
            return {type(value).__name__: str(value).removeprefix("torch.")}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
            self.tensors[path] = torch.tensor(bytearray(value.tobytes()), dtype=torch.uint8)
            array = isinstance(value, np.ndarray)
            return {"numpy": [path, value.dtype.str, list(value.shape), array]}
        raise _cannot_hold(path, type(value).__name__)

    def _pair(self, key: Any, value: Any, path: str) -> Form:
        if isinstance(key, Tensor) and id(key) not in self._known:
            raise _cannot_hold(path, "an entry for a tensor that is not a parameter of the model")
        name = self._known[id(key)] if isinstance(key, Tensor) else key
        return [self.encode(key, path), self.encode(value, f"{path}.{name}")]

    def _tensor(self, value: Tensor, path: str) -> Form:
        if id(value) in self._known:
            return {"known": self._known[id(value)], "detached": False}
        refuse_unfit(path, value)
        memory = _memory(value)
        if value.numel() and memory in self._seen:
            return self._seen[memory]
        self._refuse_overlap(value, path)
        self.occupy(value, path)
        dense = value.detach().resolve_conj().resolve_neg()
        bits = _AS_BITS.get(value.dtype)
        self.tensors[path] = dense if bits is None else torch.view_as_real(dense)
        form: dict[str, Any] = {"tensor": path}
        if bits is not None:
            form["complex"] = True
        # kernels, and so bits, may depend on strides
        if not value.is_contiguous() and 0 not in value.stride():
            form["stride"] = list(value.stride())
        if value.device.type == "cpu":
            form["host"] = True
        if value.requires_grad:
            form["requires_grad"] = True
        self._seen[memory] = form
        return form

    def _refuse_overlap(self, value: Tensor, path: str) -> None:
        if value.numel() == 0:
            return
        start, stop = extent(value)
        for other_start, other_stop, other in self._ranges:
            if start < other_stop and other_start < stop:
                raise Refusal(
                    "two parts of the state share memory, which a checkpoint would tear apart",
                    where=path,
                    expected="tensors that share all of their memory or none",
                    got=f"a part of the memory of {other}",
                    fix="clone one of them, or keep the larger one alone",
                )


class Decoder:
    """Turns forms back into values. Where a fitting tensor or dict stands already, it is filled,
    so that whoever else holds it sees it.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], known: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._tensors, self._known, self._device = tensors, known, device
        self._made: dict[str, Tensor] = {}

    def decode(self, form: Form, now: Any = None) -> Any:
        """The value of a form; `now` is what stands in its place."""
        if not isinstance(form, dict):
            return form
        if "tensor" in form:
            return self._tensor(form, now)
        if "known" in form:
            tensor = self._known[form["known"]]
            return tensor.detach() if form["detached"] else tensor
        [(kind, content)] = form.items()
        if kind == "dict":
            return self._dict(content, now)
        if kind in ("list", "tuple"):
            return self._items(kind, content, now)
        return self._leaf(kind, content)

    def _leaf(self, kind: str, content: Any) -> Any:
        if kind == "float":
            return float.fromhex(content)
        if kind == "int":
            return int(content, 0)
        if kind == "complex":
            return complex(*map(float.fromhex, content))
        if kind == "numpy":
            name, dtype, shape, whole = content
            memory = self._tensors[name].numpy().tobytes()
            array = np.frombuffer(memory, dtype).reshape(shape).copy()
            return array if whole else array[()]
        if kind == "device":
            return torch.device(content)
        if kind == "dtype" and isinstance(dtype := getattr(torch, content), torch.dtype):
            return dtype
        raise ValueError(f"nothing of the kind {kind}")

    def _dict(self, pairs: list[Any], now: Any) -> Any:
        into = now if type(now) in _DICTS else {}
        keys = [self.decode(key) for key, _ in pairs]
        new = {k: self.decode(form, into.get(k)) for k, (_, form) in zip(keys, pairs, strict=True)}
        into.clear()
        into.update(new)
        return into

    def _items(self, kind: str, forms: list[Form], now: Any) -> Any:
        fits = isinstance(now, list | tuple) and len(now) == len(forms)
        before = now if fits else [None] * len(forms)
        items = [self.decode(item, old) for item, old in zip(forms, before, strict=True)]
        if kind == "list" and isinstance(now, list):
            now[:] = items
            return now
        return items if kind == "list" else tuple(items)

    def _tensor(self, form: Form, now: Any) -> Tensor:
        name = form["tensor"]
        if name in self._made:
            return self._made[name]
        saved = self._tensors[name]
        if form.get("complex"):
            saved = torch.view_as_complex(saved.clone())  # files align less than kernels need
        device = torch.device("cpu") if form.get("host") else self._device
        stride = tuple(form["stride"]) if "stride" in form else None
        into = now if isinstance(now, Tensor) and _fits(now, saved, stride, device) else None
        if into is None:
            into = torch.empty_strided(
                saved.shape, stride or saved.stride(), dtype=saved.dtype, device=device
            )
            into.requires_grad_("requires_grad" in form)
        into.detach().copy_(saved)
        self._made[name] = into
        return into


def refuse_unfit(path: str, tensor: Tensor) -> None:
    """Raise Refusal, by path, unless the tensor is a plain one: dense, of real memory."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter)
    if plain and tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta:
        return
    what = f"{type(tensor).__name__}, {str(tensor.layout).removeprefix('torch.')}"
    what += ", quantized" * tensor.is_quantized + ", on the meta device" * tensor.is_meta
    raise _cannot_hold(path, what)


def extent(tensor: Tensor) -> tuple[int, int]:
    """First and last address that a tensor of at least one element may touch."""
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.itemsize


def _memory(tensor: Tensor) -> Any:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.device


def _fits(now: Tensor, saved: Tensor, stride: tuple[int, ...] | None, device: torch.device) -> bool:
    same = now.shape == saved.shape and now.dtype == saved.dtype
    same &= now.device.type == device.type
    return same and now.stride() == (stride or saved.stride())


def _cannot_hold(path: str, got: str) -> Refusal:
    return Refusal(
        "there is state that a checkpoint cannot hold",
        where=path,
        expected="numbers, texts, plain dense tensors, NumPy arrays, and dicts, lists and tuples "
        "of them",
        got=got,
        fix="keep it in such a form (get_extra_state and set_extra_state, or the optimizer's "
        "state, may turn it into one), or do without it",
    )
