"""Which overrides were in force: read back from composed values, in Hydra's words.

DVC composes by itself and keeps no list of what `-S` asked for, and `conf/local` changes values
without a word. Both are asked the same question: what would one have to write behind
`saigen compose` on a machine without `conf/local` to get these values?
"""

import json
import re
from pathlib import Path
from typing import Any

from saigen.config.keys import differences
from saigen.config.layers import composed_values
from saigen.config.overrides import options
from saigen.config.sources import Source, read_sources

_BARE = re.compile(r"(?!(null|true|false|nan)$)[^\W\d_][\w./]*", re.IGNORECASE)


def derive(values: dict[str, Any], conf: Path, start: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The overrides, beginning with `start`, that compose these values without conf/local.

    Options of groups first, as long as one explains several differences, then single keys.
    """

    def left_by(overrides: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
        return differences(composed_values(overrides, conf, local=False), values)

    sources = read_sources(conf)
    chosen, left = start, left_by(start)
    while len(left) > 1:
        tries = [(*chosen, pick) for pick in _picks(left, sources) if pick not in chosen]
        found = min(((left_by(t), t) for t in tries), key=lambda f: len(f[0]), default=(left, ()))
        if len(found[0]) >= len(left) - 1:
            break
        left, chosen = found
    return (*chosen, *(_override(key, *pair) for key, pair in left.items()))


def _picks(left: dict[str, Any], sources: dict[str, Source]) -> list[str]:
    """The options that could explain some of the differences; presets last."""
    touched = {key.split(".")[0] for key in left}
    presets = {name.rpartition("/")[0] for name, s in sources.items() if not s.package}
    groups = {group: found for group, found in options(sources).items() if group != "local"}
    return [
        f"{group}={option}"
        for group in sorted(groups, key=lambda group: group in presets)
        if group in presets or group.split(".")[0] in touched
        for option in groups[group]
    ]


def _override(key: str, before: Any, after: Any) -> str:
    if after is ...:
        return f"~{key}"
    return f"{'+' if before is ... else ''}{key}={in_hydras_words(after)}"


def in_hydras_words(value: Any) -> str:
    """A value in Hydra's override grammar; `nothing` for none."""
    if value is ...:
        return "nothing"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{in_hydras_words(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_hydras_words, value)) + "]"
    if isinstance(value, str) and not _BARE.fullmatch(value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return value if isinstance(value, str) else json.dumps(value)
