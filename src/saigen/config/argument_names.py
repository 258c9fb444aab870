"""The unit in the ending of a name, and the names that nothing reads.

A range is never guessed from a name: it stands in the schema, in an annotation, or in what the
callable itself refuses.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from saigen.config.keys import nearest
from saigen.errors import Refusal

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


def ending(name: str) -> str:
    """The last word of a name or full key: where its unit stands."""
    return name.rpartition(".")[2].rpartition("_")[2]


def unread(
    key: str, value: Any, known: Iterable[str], where: Callable[[str], str], reader: str = ""
) -> Refusal:
    """A key that nothing reads, beside the `known` ones of a section or of the callable `reader`;
    meant was the nearest of them, or the one that says the same in another unit.
    """
    name, known = key.rpartition(".")[2], list(known)
    stem, _, unit = name.rpartition("_")
    same = [k for k in known if unit in UNITS and stem and k.rpartition("_")[0] == stem]
    near = nearest(name, known) or next(iter(same), None)
    return Refusal(
        f"{key} is read by nothing{f': {reader} has no such parameter to state' if reader else ''}",
        where=where(key),
        expected=f"one of {', '.join(known)}" if known else "no parameter",
        got=f"{name}: {value!r}",
        fix=f"write {near!r} instead" if near else f"delete {key}",
    )


def refuse_two_units(section: str, given: Mapping[str, Any], where: Callable[[str], str]) -> None:
    """Raise Refusal if two keys say one thing in two units, such as warmup_steps, warmup_epochs."""
    stems: dict[str, str] = {}
    for name, value in given.items():
        stem, unit = name.removesuffix(ending(name)), ending(name)
        if unit not in UNITS or value is None:
            continue
        if stem and stem in stems:
            one, two = f"{section}.{stems[stem]}", f"{section}.{name}"
            raise Refusal(
                f"{one} and {two} say one thing in two units",
                where=f"{where(one)}; {where(two)}",
                expected="one of the two",
                got=f"{given[stems[stem]]!r} {ending(one)} and {value!r} {unit}",
                fix=f"delete one of the lines, or set it to null: {two}=null",
            )
        stems[stem] = name
