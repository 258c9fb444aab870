"""Types of parameters as plain values: read off an annotation once, kept as JSON, checked alone.

A `Type` is a list: ``["float"]``, ``["union", ["float"], ["null"]]``, ``["tuple", a, b]``. What
has no word in YAML (a tensor, a module) is ``["object"]``: only a node with a `_target_` gives
one. ``["any"]`` stands where nothing is annotated, or where the annotation says nothing.
"""

import contextlib
import inspect
import operator
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from saigen.config.fitted import is_fitted

Type = list[Any]

_PLAIN = {bool: "bool", int: "int", float: "float", str: "str", type(None): "null", None: "null"}
_LISTS = (list, tuple, Sequence, Collection, Iterable)
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def type_of(annotation: Any, scope: dict[str, Any]) -> Type:
    """The type that an annotation states; `scope` resolves annotations that are text."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        with contextlib.suppress(Exception):  # a library's own text, where its source stands
            annotation = eval(annotation, dict(scope))
    if isinstance(annotation, type | None) and annotation in _PLAIN:
        return [_PLAIN[annotation]]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return bounded(type_of(inside[0], scope), inside[1:])
    if origin is Literal:
        return ["literal", *inside]
    if origin is None or origin is Callable:
        return _bare(origin or annotation)
    return _of_several(origin, [item if item is ... else type_of(item, scope) for item in inside])


def _of_several(origin: Any, parts: list[Any]) -> Type:
    if origin in (Union, types.UnionType):
        return ["union", *parts]
    if origin is tuple and parts[-1] is not ...:
        return ["tuple", *parts]
    if origin in _LISTS:
        return ["list", parts[0]]
    return ["dict", parts[1]] if origin in (dict, Mapping) else ["any"]


def _bare(annotation: Any) -> Type:
    """The type of a class without parameters of its own."""
    if not isinstance(annotation, type) or annotation in (object, inspect.Parameter.empty):
        return ["any"]
    if annotation in _LISTS:
        return ["list", ["any"]]
    if annotation in (dict, Mapping):
        return ["dict", ["any"]]
    return ["str"] if issubclass(annotation, PurePath) else ["object"]


def bounded(inner: Type, marks: Iterable[Any]) -> Type:
    """The type within bounds such as `annotated_types.Ge(0)` or pydantic's `Field(ge=0)`."""
    flat = [part for mark in marks for part in (getattr(mark, "metadata", None) or [mark])]
    bounds = {name: getattr(part, name) for part in flat for name in _BOUNDS if hasattr(part, name)}
    return ["range", inner, bounds] if bounds else inner


def accepts(kind: Type, value: Any) -> bool:
    """Whether a plain value, as YAML gives it, is of this type. A bool is no number here."""
    name, *inner = kind
    items = value if isinstance(value, list) else []
    tests: dict[str, Callable[[], bool]] = {
        "any": lambda: True,
        "null": lambda: value is None,
        "bool": lambda: isinstance(value, bool),
        "int": lambda: (isinstance(value, int) and not isinstance(value, bool)) or is_fitted(value),
        "float": lambda: isinstance(value, float) or accepts(["int"], value),
        "str": lambda: isinstance(value, str),
        "object": lambda: isinstance(value, dict) and "_target_" in value,
        "literal": lambda: any(value == item and type(value) is type(item) for item in inner),
        "union": lambda: any(accepts(item, value) for item in inner),
        "list": lambda: items is value and all(accepts(inner[0], item) for item in items),
        "tuple": lambda: len(items) == len(inner) and all(map(accepts, inner, items)),
        "dict": lambda: (
            isinstance(value, dict) and all(accepts(inner[0], item) for item in value.values())
        ),
        "range": lambda: accepts(inner[0], value) and _within(value, inner[1]),
    }
    return tests[name]()


def _within(value: Any, bounds: dict[str, float]) -> bool:
    """Whether a number, or each number in a list, lies within bounds; what is none, does."""
    if isinstance(value, list):
        return all(_within(item, bounds) for item in value)
    return not isinstance(value, int | float) or all(
        getattr(operator, name)(value, bound) for name, bound in bounds.items()
    )


def unbounded(kind: Type) -> Type:
    """The type without its ranges."""
    if kind[0] == "range":
        return unbounded(kind[1])
    return [unbounded(part) if isinstance(part, list) else part for part in kind]


def bounds_of(kind: Type) -> str:
    """The ranges within a type, in words; empty where there is none."""
    name, *inner = kind
    if name == "range":
        own = " and ".join(f"{_BOUNDS[key]} {value}" for key, value in inner[1].items())
        return " and ".join(dict.fromkeys(filter(None, (bounds_of(inner[0]), own))))
    return next(filter(None, map(bounds_of, inner)), "") if name == "union" else ""


def words(kind: Type) -> str:
    """The type as a person reads it, such as ``float or null``."""
    name, *inner = kind
    if name == "union":
        plain = [item for item in inner if item != ["object"]] or inner
        return " or ".join(dict.fromkeys(words(item) for item in plain))
    if name == "range":
        return f"{words(unbounded(kind))} {bounds_of(kind)}"
    several = ", ".join(repr(item) if name == "literal" else words(item) for item in inner)
    known = {
        "literal": f"one of {several}",
        "list": f"list of {several}",
        "tuple": f"list of exactly {len(inner)}: {several}",
        "dict": f"mapping to {several}",
        "object": "a node with a `_target_`",
        "any": "any value",
    }
    return known.get(name) or str(name)
