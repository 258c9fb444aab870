"""Full keys, such as ``trainer.max_steps``: all of a config, the value at one, the nearest."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def walk(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """A value and every value inside it, by full key, outer ones first; a list's by number."""
    yield key, value
    lists = enumerate(value) if isinstance(value, list) else ()
    for name, item in value.items() if isinstance(value, Mapping) else lists:
        yield from walk(item, f"{key}.{name}" if key else str(name))


def leaves(values: Any) -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping and no list, or an empty one, by its full key."""
    yield from (
        (key, value)
        for key, value in walk(values)
        if not (isinstance(value, Mapping | list) and value)
    )


def value_at(values: Any, key: str) -> Any:
    """The value at a full key; `...` where there is none."""
    for part in key.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part, ...) if isinstance(values, Mapping) else ...
    return values


def differences(one: Any, two: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both values; `...` stands for none."""
    if isinstance(one, dict) and isinstance(two, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in {**one, **two}:
            inside = f"{key}.{name}" if key else str(name)
            found |= differences(one.get(name, ...), two.get(name, ...), inside)
        return found
    # 1 and 1.0, 0 and False are different bytes in params.yaml
    return {} if one == two and repr(one) == repr(two) else {key: (one, two)}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any is close enough. Case does not matter.

    For a full key, its neighbours come first, then the same last name in another group.
    """
    folded = {key.casefold(): key for key in sorted(known, reverse=True)}
    parent, _, last = name.casefold().rpartition(".")
    beside = {key.rpartition(".")[2]: key for key in folded if key.rpartition(".")[0] == parent}
    elsewhere = {key.rpartition(".")[2]: key for key in folded if "." in key}
    for names, wanted, cutoff in (
        (beside, last, 0.65),
        (elsewhere, last, 0.75),
        (dict(zip(folded, folded, strict=True)), name.casefold(), 0.85),
    ):
        if found := difflib.get_close_matches(wanted, names, n=1, cutoff=cutoff):
            return folded[names[found[0]]]
    return None
