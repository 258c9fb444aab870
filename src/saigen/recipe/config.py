"""The config layer: every value that can move a bit, and where the others went."""

import copy
from collections.abc import Mapping
from typing import Any

from saigen.recipe.layer import Layer
from saigen.recipe.schema import CIRCUMSTANCES


def capture(values: Mapping[str, Any]) -> Layer:
    """The resolved config without the keys that are circumstances."""
    kept = copy.deepcopy(dict(values))
    for key in CIRCUMSTANCES:
        *path, last = key.split(".")
        section = kept
        for part in path:
            section = section[part]
        section.pop(last)
    return Layer("config", {"values": kept})


def circumstances(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that `capture` leaves out, by full key."""
    found: dict[str, Any] = {}
    for key in CIRCUMSTANCES:
        value: Any = values
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found
