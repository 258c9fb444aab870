"""Overrides: what the command line asks for, in Hydra's words, checked before Hydra sees it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from saigen.recipe.composer.names import nearest
from saigen.recipe.composer.sources import Source, refuse_resolver
from saigen.refusal import Refusal

_SHAPE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=]*)(?P<rest>=(?P<value>.*))?", re.DOTALL)
_OPTION = re.compile(r"[\w.-]+(/[\w.-]+)*")


@dataclass(frozen=True)
class Override:
    """One override: `sign` is "" to change, + or ++ to add, ~ to delete."""

    text: str
    sign: str
    key: str
    value: str | None


def parse(text: str) -> Override:
    """Split an override at its first `=`. Hydra parses the value itself."""
    found = _SHAPE.fullmatch(text)
    assert found is not None
    key = found["key"].strip().replace("/", ".")
    return Override(text, found["sign"] or "", key, found["value"])


def options(sources: dict[str, Source]) -> dict[str, list[str]]:
    """The options of each group: `model` has `cnn`, `mlp`, and `vision/resnet` of a subgroup."""
    groups: dict[str, list[str]] = {}
    for name in sources:
        parts = name.split("/")
        for end in range(1, len(parts)):
            groups.setdefault(".".join(parts[:end]), []).append("/".join(parts[end:]))
    return groups


def normalized(texts: Iterable[str], sources: dict[str, Source]) -> tuple[str, ...]:
    """The overrides as Hydra takes them; `+experiment=x` becomes `experiment=x`.

    Raises Refusal on an override of Hydra itself, a resolver, or an option that does not exist.
    """
    groups = options(sources)
    picked = {
        key.split(".", 2)[2]: entry.text
        for key, entry in sources["config"].entries.items()
        if key.startswith("defaults.") and key.count(".") == 2
    }
    nothing = [group for group, option in picked.items() if option == "null"]
    kept = []
    for text in texts:
        override = parse(text)
        if override.key == "hydra" or override.key.startswith("hydra."):
            raise _not_ours(override)
        refuse_resolver(override.key, f"command line: {text}", text)
        if override.key in groups and override.value is not None:
            _refuse_option(override, groups[override.key], may_be_null=override.key in nothing)
            if override.sign == "+" and override.key in picked:
                text = text[1:]  # noqa: PLW2901
        kept.append(text)
    return tuple(kept)


def _refuse_option(override: Override, known: list[str], *, may_be_null: bool) -> None:
    value = (override.value or "").strip()
    if not _OPTION.fullmatch(value) or value in known or (value == "null" and may_be_null):
        return
    near = nearest(value, known)
    raise Refusal(
        f"the group {override.key} has no option {value!r}",
        where=f"{override.key} (command line: {override.text})",
        expected=f"one of {', '.join(known)}",
        got=value,
        fix=f"write {override.key}={near or known[0]}, or add "
        f"conf/{override.key.replace('.', '/')}/{value}.yaml",
    )


def _not_ours(override: Override) -> Refusal:
    return Refusal(
        f"{override.key} is a setting of Hydra, which is no part of a recipe",
        where=f"{override.key} (command line: {override.text})",
        expected="overrides of the groups and keys of conf/",
        got=override.text,
        fix="leave it out; launchers and sweepers are chosen with `saigen train --multirun`",
    )
