"""What the schema says of a key, and what it refuses, said so that it can be mended."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from saigen.config.argument_names import unread
from saigen.config.keys import nearest
from saigen.config.parameter_types import Type, bounded, type_of, words
from saigen.config.schema import NEWER_KEYS, STREAMS, Config, Section
from saigen.errors import Refusal

Where = Callable[[str], str]
Newer = Mapping[str, tuple[str, str]]


def schema_fields(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every full key of the schema with its FieldInfo, sections before what they hold."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from schema_fields(field.annotation, f"{prefix}{name}.")


_FIELDS: dict[str, FieldInfo] = dict(schema_fields())


def section_of(key: str) -> type[Section] | None:
    """The section that a key names; None if it names a value or nothing. "" is the whole config."""
    kind = _FIELDS[key].annotation if key in _FIELDS else None if key else Config
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def meaning_of(key: str) -> tuple[Type, str] | None:
    """Type with range, and meaning, of a key such as ``trainer.max_steps``; None for an argument
    of a callable. An entry of a mapping, such as a stream's seed, has a type and no meaning.
    """
    if key in _FIELDS:
        field = _FIELDS[key]
        return bounded(type_of(field.annotation, {}), field.metadata), field.description or ""
    above = meaning_of(key.rpartition(".")[0]) if "." in key else None
    return (above[0][1], "") if above and above[0][0] == "dict" else None


def refusal_of(error: ValidationError, where: Where, newer: Newer = NEWER_KEYS) -> Refusal:
    """The refusal of the first mistake; the others are listed behind the fix."""
    mistakes = error.errors(include_url=False)
    # a misspelt key is two mistakes, one unknown and one missing: the unknown one explains both
    mistakes.sort(key=lambda mistake: mistake["type"] != "extra_forbidden")
    keys = [_key(mistake["loc"]) for mistake in mistakes]
    first, key = mistakes[0], keys[0]
    if first["type"] == "extra_forbidden" or first["loc"][-1] == "[key]":
        section = section_of(key.rpartition(".")[0])
        refusal = unread(key, first["input"], section.model_fields if section else STREAMS, where)
    elif first["type"] == "missing":
        refusal = _missing(key, where, newer)
    elif first["type"] == "value_error" and (section := section_of(key)):
        refusal = _broken_rule(key, str(first["ctx"]["error"]), first["input"], section, where)
    else:
        refusal = _wrong(key, first, where)
    if others := [other for other in dict.fromkeys(keys[1:]) if other != key]:
        refusal.fix += f"; then mend {', '.join(others)}"
    return refusal


def _key(location: tuple[int | str, ...]) -> str:
    parts = ["_target_" if part == "target" else str(part) for part in location if part != "[key]"]
    return ".".join(parts)


def _missing(key: str, where: Where, newer: Newer) -> Refusal:
    name, known = key.rpartition(".")[2], meaning_of(key)
    kind, meaning = (words(known[0]), f": {known[1]}") if known else ("a value", "")
    fix = f"add `{name}: VALUE`{meaning}"
    if section_of(key) is not None or kind == "a node with a `_target_`":
        kind = "a group"
        fix = f"pick an option of {name} in conf/config.yaml, such as `- {name}: ...`"
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


def _broken_rule(
    key: str, message: str, value: Any, section: type[Section], where: Where
) -> Refusal:
    """A rule over several keys: name those that it speaks of."""
    names = "|".join(section.model_fields)
    named = [f"{key}.{name}" for name in re.findall(rf"\b(?:{names})(?:\.\w+)*", message)]
    return Refusal(
        f"{' and '.join(named) or key} cannot be: {message}",
        where="; ".join(where(name) for name in named) or where(key),
        expected=message,
        got=repr(value),
        fix=f"mend {' or '.join(named) or key}",
    )


def _wrong(key: str, mistake: Any, where: Where) -> Refusal:
    value, section, known = mistake["input"], section_of(key), meaning_of(key)
    kind = known[0] if known else ["any"]
    is_choice = kind[0] == "literal" and isinstance(value, str)
    near = nearest(value, map(str, kind[1:])) if is_choice else None
    message = str(mistake["ctx"]["error"]) if mistake["type"] == "value_error" else mistake["msg"]
    return Refusal(
        f"{key} is of the wrong kind or out of range",
        where=where(key),
        expected=f"keys {', '.join(section.model_fields)}" if section else words(kind),
        got=repr(value),
        fix=f"write {near!r}" if near else f"give {key} such a value ({message})",
    )
