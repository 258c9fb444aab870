"""`saigen compose --explain KEY`: what a value is, may be and means, and who set it."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field

from saigen.config.argument_names import UNITS, ending
from saigen.config.callables import TARGET
from saigen.config.compose import CONF, Composition, compose
from saigen.config.keys import nearest, value_at
from saigen.config.messages import meaning_of
from saigen.config.origins import Origins
from saigen.config.overrides import options
from saigen.config.parameter_types import Type, bounds_of, unbounded, words
from saigen.config.signatures import signatures
from saigen.config.sources import read_sources
from saigen.errors import Refusal

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class Explanation(BaseModel):
    """The document of `saigen compose --explain KEY --json`, all in words."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=AliasGenerator(
            serialization_alias=lambda name: name.strip("_").replace("_", " ")
        ),
    )
    schema_: Literal["saigen-explain-1"] = "saigen-explain-1"
    key: str
    value: str = Field(description="as YAML")
    options: str | None = Field(description="of a group", default=None)
    meaning: str | None = Field(description="what the schema, or the comment, says", default=None)
    type: str
    range: str | None = Field(description="of a value", default=None)
    unit: str | None = Field(description="of a value", default=None)
    read_by: str = Field(description="a callable, or saigen")
    set_by: str = Field(description="file and line, or override")
    through: str | None = Field(description="keys that the value is taken from", default=None)
    before_that: str | None = Field(description="files that set it earlier", default=None)
    overrides: str = Field(description="those that touched it")

    def json_text(self) -> str:
        """The document as it stands on standard output; what there is not is left out."""
        return self.model_dump_json(indent=2, by_alias=True, exclude_none=True)

    def __str__(self) -> str:
        values = self.model_dump(
            by_alias=True, exclude_none=True, exclude={"schema_", "key", "value"}
        )
        lines = [f"  {name + ':':<13}{text}" for name, text in values.items()]
        return "\n".join([f"{self.key}: {self.value}", *lines])


def explain(key: str, overrides: tuple[str, ...], conf: Path = CONF) -> Explanation:
    """What there is to say about one key of the config that these overrides compose.

    Raises Refusal if the config is refused, or has no such key.
    """
    composition = compose(overrides, conf)
    origins = Origins(conf, read_sources(conf), composition.overrides)
    return tell(key, composition, origins, conf.parent)


def tell(key: str, composition: Composition, origins: Origins, root: Path) -> Explanation:
    """The same for a config that is composed already. Raises Refusal if it has no such key."""
    value = value_at(composition.values, key)
    if value is ...:
        near = nearest(key, origins.known())
        raise Refusal(
            f"there is no key {key}",
            where=f"{key} (command line: --explain {key})",
            expected="a full key of the composed config",
            got=key,
            fix=f"ask for {near}" if near else "`saigen compose` prints every key",
        )
    kind, owner, meaning = _said(key, composition, root)
    through, touched, files = references(key, origins), origins.touched(key), origins.set_by(key)
    every = [*touched, *(override for one in through for override in origins.touched(one))]
    earlier = [f"{source.file}:{entry.line} ({entry.text})" for source, entry in files]
    is_section = isinstance(value, dict)
    return Explanation(
        key=key,
        value=_shown(value),
        options=", ".join(options(origins.sources).get(key, [])) or None,
        meaning=meaning or next((e.comment for _, e in reversed(files) if e.comment), None),
        type=f"keys {', '.join(value)}" if is_section else words(unbounded(kind)),
        range=None if is_section else bounds_of(kind) or "any",
        unit=None if is_section else UNITS.get(ending(key), "none"),
        read_by=owner,
        set_by=origins.where(key).removeprefix(f"{key} (").removesuffix(")"),
        through=", ".join(map(origins.where, through)) or None,
        before_that="; ".join(earlier if touched else earlier[:-1]) or None,
        overrides=", ".join(dict.fromkeys(override.text for override in every)) or "none",
    )


def _said(key: str, composition: Composition, root: Path) -> tuple[Type, str, str]:
    """The type of a key, what reads it, and what the schema says that it means."""
    if known := meaning_of(key):
        return known[0], "saigen", known[1]
    parent, _, name = key.rpartition(".")
    inside = False
    while parent:
        node = value_at(composition.values, parent)
        if isinstance(node, dict) and TARGET in node:
            target = str(node[TARGET])
            parameters = signatures([(key, target)], root)[target].named()
            if inside or name not in parameters:
                return ["str" if name == TARGET else "any"], target, ""
            return parameters[name].type, target, ""
        inside, parent = True, parent.rpartition(".")[0]
    return ["any"], "saigen", ""


def references(key: str, origins: Origins) -> list[str]:
    """The keys that a value is taken from, however far."""
    found: list[str] = []
    queue = [key]
    while queue:
        set_by = origins.set_by(queue.pop())
        named = _REFERENCE.findall(set_by[-1][1].text or "") if set_by else []
        queue += [name for name in named if name not in found]
        found += [name for name in named if name not in found]
    return found


def _shown(value: Any) -> str:
    from omegaconf import OmegaConf

    if isinstance(value, dict | list):
        text = OmegaConf.to_yaml(OmegaConf.create(value)).rstrip()
        return "\n    " + text.replace("\n", "\n    ")
    return OmegaConf.to_yaml(OmegaConf.create({"_": value})).rstrip().removeprefix("_: ")
