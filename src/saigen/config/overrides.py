"""Overrides: what the command line asks for, in Hydra's words, checked before Hydra sees it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from saigen.config.keys import nearest
from saigen.config.sources import Source, refuse_resolver
from saigen.errors import Refusal

_OPTION = re.compile(r"[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Override:
    """One override, split at its first `=`; a group of groups has a dot in its key, too."""

    text: str
    key: str
    value: str


def parse(text: str) -> Override:
    """Split an override; + or ++ adds, ~ deletes. Hydra parses the value itself."""
    key, _, value = text.partition("=")
    return Override(text, key.lstrip("+~").strip().replace("/", "."), value.strip())


def options(sources: dict[str, Source]) -> dict[str, list[str]]:
    """The options of each group: `model` has `cnn`, `mlp`, and `vision/resnet` of a subgroup."""
    groups: dict[str, list[str]] = {}
    for name in sources:
        parts = name.split("/")
        for end in range(1, len(parts)):
            groups.setdefault(".".join(parts[:end]), []).append("/".join(parts[end:]))
    return groups


def picked(sources: dict[str, Source]) -> dict[str, str]:
    """The option that the defaults list of config.yaml picks of each group; `null`: none."""
    return {
        key.split(".", 2)[2].replace("/", "."): entry.text
        for key, entry in sources["config"].leaves.items()
        if key.startswith("defaults.") and key.count(".") > 1 and entry.text is not None
    }


def normalized(texts: Iterable[str], sources: dict[str, Source]) -> tuple[str, ...]:
    """The overrides as Hydra takes them; `+experiment=x` becomes `experiment=x`.

    Raises Refusal on an override of Hydra itself, a resolver, or an option that does not exist.
    """
    groups, defaults, kept = options(sources), picked(sources), []
    for text in texts:
        key, value = parse(text).key, parse(text).value
        if key.split(".")[0] == "hydra":
            raise Refusal(
                f"{key} is a setting of Hydra, which is no part of a recipe",
                where=f"{key} (command line: {text})",
                expected="overrides of the groups and keys of conf/",
                got=text,
                fix="leave it out; `saigen train --multirun` chooses launchers and sweepers",
            )
        refuse_resolver(key, f"command line: {text}", text)
        known = [*groups.get(key, ()), *(["null"] if defaults.get(key) == "null" else [])]
        if key in groups and _OPTION.fullmatch(value) and value not in known:
            near = nearest(value, groups[key]) or known[0]
            new = f"conf/{key.replace('.', '/')}/{value}.yaml"
            raise no_option(
                key, value, groups[key], f"command line: {text}", f"{key}={near}, or add {new}"
            )
        kept.append(text.lstrip("+") if key in groups and key in defaults else text)
    return tuple(kept)


def no_option(group: str, option: str, known: list[str], location: str, write: str) -> Refusal:
    """A group has no such option."""
    return Refusal(
        f"the group {group or 'of conf/'} has no option {option!r}",
        where=f"{group or option} ({location})",
        expected=f"one of {', '.join(known)}" if known else "a group that has a folder in conf/",
        got=option,
        fix=f"write {write}" if known else f"{write}, or delete the line",
    )
