"""What the schema says of a key: its field, type, range and meaning, and which keys there are."""

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo

from saigen.recipe.callables.parameter_types import Type, bounded, type_of
from saigen.recipe.schema import Config, Section


def field_of(key: str) -> FieldInfo | None:
    """The field of a full key such as ``trainer.max_steps``; None for an argument of a callable."""
    section: Any = Config
    found: FieldInfo | None = None
    for name in key.split("."):
        if not (isinstance(section, type) and issubclass(section, Section)):
            # an entry of a mapping, such as a stream's seed, has the mapping's field
            return found if found is not None and type_of_field(found)[0] == "dict" else None
        found = section.model_fields.get(name)
        if found is None:
            return None
        section = found.annotation
    return found


def section_of(key: str) -> type[Section] | None:
    """The section that a key names; None if it names a value or nothing. "" is the whole config."""
    if not key:
        return Config
    field = field_of(key)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def type_of_field(field: FieldInfo) -> Type:
    """The type of a field with its range."""
    return bounded(type_of(field.annotation, {}), field.metadata)


def schema_keys(section: type[Section] = Config, prefix: str = "") -> Iterator[str]:
    """Every full key of the schema, sections before what they hold."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from schema_keys(field.annotation, f"{key}.")
