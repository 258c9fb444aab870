"""Which overrides were in force: read back from composed values, in Hydra's words.

DVC composes by itself and keeps no list of what `-S` asked for, and `conf/local` changes values
without a word. Both are asked the same question: what would one have to write behind
`saigen compose` on a machine without `conf/local` to get these values?
"""

import json
from pathlib import Path
from typing import Any

from saigen.recipe.composer.laying import lay
from saigen.recipe.composer.overrides import options
from saigen.recipe.composer.sources import Source


def derive(
    values: dict[str, Any], conf: Path, sources: dict[str, Source], start: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The overrides, beginning with `start`, that compose these values without conf/local.

    Options of groups first, as long as one explains several differences, then single keys.
    """

    def laid(overrides: tuple[str, ...]) -> dict[str, Any]:
        return lay(overrides, conf, sources, local=False)

    chosen, current = start, laid(start)
    while len(left := differences(current, values)) > 1:
        tries = [(*chosen, pick) for pick in _picks(left, sources) if pick not in chosen]
        best = min(tries, key=lambda o: len(differences(laid(o), values)), default=chosen)
        if len(differences(laid(best), values)) >= len(left) - 1:
            break
        chosen, current = best, laid(best)
    return (*chosen, *(_override(key, *pair) for key, pair in left.items()))


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


def _picks(left: dict[str, Any], sources: dict[str, Source]) -> list[str]:
    """The options that could explain some of the differences; presets last."""
    touched = {key.split(".")[0] for key in left}
    everywhere = {name.rpartition("/")[0] for name, s in sources.items() if not s.package}
    groups = {group: found for group, found in options(sources).items() if group != "local"}
    order = sorted(groups, key=lambda group: group in everywhere)
    return [
        f"{group}={option}"
        for group in order
        if group in everywhere or group.split(".")[0] in touched
        for option in groups[group]
    ]


def _override(key: str, before: Any, after: Any) -> str:
    if after is ...:
        return f"~{key}"
    return f"{'+' if before is ... else ''}{key}={in_hydras_words(after)}"


def in_hydras_words(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{in_hydras_words(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_hydras_words, value)) + "]"
    if isinstance(value, str):
        plain = value.replace("_", "a").replace(".", "a").replace("/", "a").isalnum()
        if plain and value[0].isalpha() and value.lower() not in ("null", "true", "false", "nan"):
            return value
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)
