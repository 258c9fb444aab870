"""What the schema refuses, said so that it can be mended: full key, file, expected, got, fix."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from saigen.recipe.callables.parameter_types import words
from saigen.recipe.composer.keys import field_of, section_of, type_of_field
from saigen.recipe.composer.names import UNITS, nearest
from saigen.recipe.schema import NEWER_KEYS, STREAMS
from saigen.refusal import Refusal

Where = Callable[[str], str]
Newer = Mapping[str, tuple[str, str]]


def refusal_of(error: ValidationError, where: Where, newer: Newer = NEWER_KEYS) -> Refusal:
    """The refusal of the first mistake; the others are listed behind the fix."""
    mistakes = error.errors(include_url=False)
    # a misspelt key is two mistakes, one unknown and one missing: the unknown one explains both
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    keys = [_key(mistake["loc"]) for mistake in mistakes]
    first, key = mistakes[0], keys[0]
    kind = first["type"]
    if kind == "extra_forbidden" or first["loc"][-1] == "[key]":
        refusal = _dead(key, first["input"], where)
    elif kind == "missing":
        refusal = _missing(key, where, newer)
    else:
        refusal = _wrong(key, first, where)
    if others := [other for other in dict.fromkeys(keys[1:]) if other != key]:
        refusal.fix += f"; then mend {', '.join(others)}"
    return refusal


def _key(place: tuple[int | str, ...]) -> str:
    parts = ["_target_" if part == "target" else str(part) for part in place if part != "[key]"]
    return ".".join(parts)


def _dead(key: str, value: Any, where: Where) -> Refusal:
    parent, _, name = key.rpartition(".")
    section = section_of(parent)
    known = list(section.model_fields) if section else list(STREAMS)
    near = nearest(name, known) or _other_unit(name, known)
    return Refusal(
        f"{key} is read by nothing",
        where=where(key),
        expected=f"keys of {parent or 'the config'}: {', '.join(known)}",
        got=f"{name}: {value!r}",
        fix=f"write {near!r} instead" if near else f"delete {key}: it has no effect",
    )


def _other_unit(name: str, known: list[str]) -> str | None:
    """The same thing in the unit that is read: `max_epochs` for `max_hours`."""
    stem, _, ending = name.rpartition("_")
    same = [key for key in known if key.rpartition("_")[0] == stem]
    return same[0] if stem and ending in UNITS and same else None


def _missing(key: str, where: Where, newer: Newer) -> Refusal:
    name, field = key.rpartition(".")[2], field_of(key)
    kind = words(type_of_field(field)) if field else "a value"
    meaning = f": {field.description}" if field and field.description else ""
    fix = f"add `{name}: VALUE`{meaning}"
    if section_of(key) is not None or kind == "a node with a `_target_`":
        kind, fix = (
            "a group",
            f"pick an option of {name} in conf/config.yaml, such as `- {name}: ...`",
        )
    if key in newer:
        version, value = newer[key]
        fix = f"add `{name}: {value}`, which keeps what was before {version}{meaning}"
    return Refusal(
        f"{key} is missing",
        where=where(key),
        expected=kind,
        got="nothing; no key has a value in Python",
        fix=fix,
    )


def _wrong(key: str, mistake: Any, where: Where) -> Refusal:
    field, value = field_of(key), mistake["input"]
    section = section_of(key)
    message = str(mistake["ctx"]["error"]) if mistake["type"] == "value_error" else mistake["msg"]
    if section is not None and mistake["type"] == "value_error":
        # a rule over several keys: name those that it speaks of
        names = "|".join(section.model_fields)
        named = [f"{key}.{name}" for name in re.findall(rf"\b(?:{names})(?:\.\w+)*", message)]
        return Refusal(
            f"{' and '.join(named) or key} cannot be: {message}",
            where="; ".join(where(name) for name in named) or where(key),
            expected=message,
            got=repr(value),
            fix=f"mend {' or '.join(named) or key}",
        )
    kind = type_of_field(field) if field else ["any"]
    near = (
        nearest(value, map(str, kind[1:]))
        if kind[0] == "literal" and isinstance(value, str)
        else None
    )
    expected = words(kind) if section is None else f"keys {', '.join(section.model_fields)}"
    return Refusal(
        f"{key} is of the wrong kind or out of range",
        where=where(key),
        expected=expected,
        got=repr(value),
        fix=f"write {near!r}" if near else f"give {key} such a value ({message})",
    )
