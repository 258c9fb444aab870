"""What a name says: the unit in its ending, and the range that its meaning implies.

Sections of the schema state their own ranges. These names keep their meaning wherever they
stand among the arguments of a callable, in a library's constructor as in yours.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saigen.refusal import Refusal

UNITS = {
    "steps": "updates of the weights",
    "epochs": "passes over the training split",
    "examples": "examples",
    "samples": "examples",
    "batches": "batches",
    "tokens": "tokens",
    "validations": "validations",
    "seconds": "seconds",
    "minutes": "minutes",
    "hours": "hours",
    "pixels": "pixels",
    "bytes": "bytes",
    "threads": "threads",
    "workers": "processes",
    "processes": "processes",
    "microbatches": "slices of a batch",
    "fraction": "share of 1",
    "percent": "hundredths",
    "degrees": "degrees of angle",
}
# name or ending -> (words, lowest, is the lowest allowed, highest, is the highest allowed)
_RANGES: dict[str, tuple[str, float, bool, float, bool]] = {
    "momentum": ("at least 0 and below 1", 0, True, 1, False),
    "betas": ("at least 0 and below 1", 0, True, 1, False),
    "dropout": ("at least 0 and below 1", 0, True, 1, False),
    "label_smoothing": ("from 0 to 1", 0, True, 1, True),
    "fraction": ("from 0 to 1", 0, True, 1, True),
    **dict.fromkeys(
        ("lr", "eps", "epsilon", "decay", "steps", "epochs", "examples", "pixels", "seconds"),
        ("0 or more", 0, True, float("inf"), False),
    ),
}


def unit(name: str) -> str:
    """The unit that a key's ending names, or an empty text."""
    return UNITS.get(_ending(name), "")


def range_of(name: str) -> str:
    """The range that an argument's name implies, in words, or an empty text."""
    found = _range(name)
    return found[0] if found else ""


def refuse_range(key: str, value: Any, where: Callable[[str], str]) -> None:
    """Raise Refusal if a number, or one in a list, lies outside what its name implies."""
    found = _range(key.rpartition(".")[2])
    numbers = value if isinstance(value, list) else [value]
    if found is None or not all(isinstance(n, int | float) for n in numbers):
        return
    words, low, low_in, high, high_in = found
    for number in numbers:
        above = number >= low if low_in else number > low
        below = number <= high if high_in else number < high
        if not (above and below):
            raise Refusal(
                f"{key} is out of range",
                where=where(key),
                expected=f"a number {words}",
                got=repr(value),
                fix=f"give {key} a number {words}",
            )


def refuse_two_units(section: str, given: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Raise Refusal if two keys say one thing in two units, such as warmup_steps, warmup_epochs."""
    stems: dict[str, str] = {}
    for name, value in given.items():
        if _ending(name) not in UNITS or value is None:
            continue
        stem = name[: -len(_ending(name))]
        if stem and stem in stems:
            one, two = f"{section}.{stems[stem]}", f"{section}.{name}"
            raise Refusal(
                f"{one} and {two} say one thing in two units",
                where=f"{where(one)}; {where(two)}",
                expected="one of the two",
                got=f"{given[stems[stem]]!r} {_ending(one)} and {value!r} {_ending(name)}",
                fix=f"delete one of the lines, or set it to null: {two}=null",
            )
        stems[stem] = name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if any is close enough. Case does not matter.

    For a full key, its neighbours come first, then the same last name in another group.
    """
    folded = {key.casefold(): key for key in sorted(known, reverse=True)}
    parent, _, last = name.casefold().rpartition(".")
    beside = {key.rpartition(".")[2]: key for key in folded if key.rpartition(".")[0] == parent}
    elsewhere = {key.rpartition(".")[2]: key for key in folded}
    for names, cutoff in ((beside, 0.65), (elsewhere, 0.75)):
        if found := difflib.get_close_matches(last, names, n=1, cutoff=cutoff):
            return folded[names[found[0]]]
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.85)
    return folded[found[0]] if found else None


def _ending(name: str) -> str:
    return name.rpartition(".")[2].rpartition("_")[2]


def _range(name: str) -> tuple[str, float, bool, float, bool] | None:
    return _RANGES.get(name) or _RANGES.get(_ending(name))
