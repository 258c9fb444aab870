"""`saigen compose --explain KEY`: what a value is, may be and means, and who set it."""

import re
from pathlib import Path
from typing import Any

from saigen.recipe.callables.callees import TARGET, find_calls
from saigen.recipe.callables.parameter_types import Type, bounds_of, unbounded, words
from saigen.recipe.callables.signatures import signatures
from saigen.recipe.composer.compose import CONF, Composition, compose
from saigen.recipe.composer.keys import field_of, type_of_field
from saigen.recipe.composer.names import nearest, range_of, unit
from saigen.recipe.composer.origins import Origins
from saigen.recipe.composer.overrides import options
from saigen.recipe.composer.sources import read_sources
from saigen.refusal import Refusal

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def explain(key: str, overrides: tuple[str, ...], conf: Path = CONF) -> dict[str, str]:
    """What there is to say about one key of the config that these overrides compose.

    Raises Refusal if the config is refused, or has no such key.
    """
    composition = compose(overrides, conf)
    origins = Origins(conf, read_sources(conf), composition.overrides)
    return tell(key, composition, origins, conf.parent)


def tell(key: str, composition: Composition, origins: Origins, root: Path) -> dict[str, str]:
    """The same for a config that is composed already. Raises Refusal if it has no such key."""
    value = _value(key, composition, origins)
    kind, owner, meaning = _said(key, composition, root)
    name = key.rpartition(".")[2]
    through = references(key, origins)
    touched = dict.fromkeys(o.text for one in (key, *through) for o in origins.touched(one))
    told = {"key": key, "value": _shown(value)}
    told["options"] = ", ".join(dict(options(origins.sources)).get(key, []))
    told["meaning"] = meaning or origins.comment(key)
    if isinstance(value, dict):
        told["type"] = f"keys {', '.join(value)}"
    else:
        told["type"] = words(unbounded(kind))
        told["range"] = bounds_of(kind) or range_of(name) or "any"
        told["unit"] = unit(name) or "none"
    told["read by"] = owner
    told["set by"] = origins.where(key).removeprefix(f"{key} (").removesuffix(")")
    told["through"] = ", ".join(map(origins.where, through))
    told["before that"] = "; ".join(origins.earlier(key))
    told["overrides"] = ", ".join(touched) or "none"
    return {name: text for name, text in told.items() if text}


def explanation(told: dict[str, str]) -> str:
    """The same as lines for a person."""
    rest = {name: text for name, text in told.items() if name not in ("key", "value")}
    lines = [f"{told['key']}: {told['value']}"]
    return "\n".join(lines + [f"  {name + ':':<13}{text}" for name, text in rest.items()])


def _value(key: str, composition: Composition, origins: Origins) -> Any:
    value: Any = composition.values
    for part in key.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            near = nearest(key, origins.keys())
            raise Refusal(
                f"there is no key {key}",
                where=f"{key} (command line: --explain {key})",
                expected="a full key of the composed config",
                got=key,
                fix=f"ask for {near}" if near else "`saigen compose` prints every key",
            )
    return value


def _said(key: str, composition: Composition, root: Path) -> tuple[Type, str, str]:
    """The type of a key, what reads it, and what the schema says that it means."""
    if (field := field_of(key)) is not None:
        kind = type_of_field(field)
        inside = key.rpartition(".")[0]
        if kind[0] == "dict" and field_of(inside) is field:  # an entry of a mapping
            return kind[1], "saigen", ""
        return kind, "saigen", field.description or ""
    calls = dict(find_calls(composition.values))
    path = key.split(".")
    for end in range(len(path) - 1, 0, -1):
        node, name = calls.get(".".join(path[:end])), path[end]
        if node is None:
            continue
        target = str(node["_target_"])
        parameters = signatures([(key, target)], root)[target].named()
        if end < len(path) - 1 or name not in parameters:
            return ["str" if name == TARGET else "any"], target, ""
        return parameters[name].type, target, ""
    return ["any"], "saigen", ""


def references(key: str, origins: Origins) -> list[str]:
    """The keys that a value is taken from, however far."""
    found: list[str] = []
    queue = [key]
    while queue:
        entry = origins.entry(queue.pop())
        named = _REFERENCE.findall(entry[1].text or "") if entry else []
        queue += [name for name in named if name not in found]
        found += [name for name in named if name not in found]
    return found


def _shown(value: Any) -> str:
    from omegaconf import OmegaConf

    if isinstance(value, dict | list):
        text = OmegaConf.to_yaml(OmegaConf.create(value)).rstrip()
        return "\n    " + text.replace("\n", "\n    ")
    return OmegaConf.to_yaml(OmegaConf.create({"_": value})).rstrip().removeprefix("_: ")
