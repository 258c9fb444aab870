"""Redundancy on purpose: what config.yaml and a preset must say although Hydra could do without.

A group's file that loses a line is found out, because a key is missing then. A preset that loses
a line still composes, into another experiment. So it says at its top which keys it sets::

    # @package _global_
    # sets: model, model.dropout

and `conf/config.yaml` must lay presets and conf/local over the rest. What Hydra itself is told
(folders, launchers) is no part of a recipe and stands nowhere in conf/.
"""

import re

from saigen.config.sources import Source
from saigen.errors import Refusal

_SETS = re.compile(r"^#\s*sets:[ \t]*(.*)$", re.MULTILINE)
_DEFAULT = re.compile(r"defaults\.\d+\.")
_OVERRIDDEN = re.compile(r"defaults\.\d+\.(?:override )?/?([\w/@.-]+)")
_HYDRA = re.compile(r"(?:(?:override |optional )*/?)?hydra\b")
_FRAME = ("_self_", "experiment", "debug", "optional local")


def refuse_presets(sources: dict[str, Source], *, composed: bool) -> None:
    """Raise Refusal if a preset does not set a key that it says it sets. Once all is composed (a
    misspelt key is better told as such): if it sets a key and does not say so.
    """
    for name, source in sources.items():
        if source.package or name == "config" or name.startswith("local/"):
            continue
        header, sets = _SETS.search(source.text), what_it_sets(source)
        declared = [key.strip() for key in header.group(1).split(",")] if header else []
        one, other = (sets, declared) if composed else (declared, sets)
        for key in (key for key in one if key not in other):
            line = source.entries[key].line if key in source.entries else 1
            raise Refusal(
                f"{source.file} sets {key} and does not say so"
                if composed
                else f"{source.file} says that it sets {key}, and does not",
                where=f"{key} ({source.file}:{line})",
                expected=f"a line `# sets: {', '.join(sets)}`",
                got=header.group(0) if header else "no line `# sets: ...`",
                fix=f"write `# sets: {', '.join(sets)}` below the first line"
                if composed
                else f"bring {key} back, or correct the line `# sets:` at the top",
            )


def what_it_sets(source: Source) -> list[str]:
    """The groups whose option a preset picks, and the keys whose value it gives."""
    found = map(_OVERRIDDEN.fullmatch, source.entries)
    picked = [match.group(1).replace("/", ".") for match in found if match]
    given = [key for key in source.leaves if not re.search(r"^defaults|(^|\.)\d+(\.|$)", key)]
    return list(dict.fromkeys(picked + given))


def refuse_frame(sources: dict[str, Source]) -> None:
    """Raise Refusal if conf/ speaks to Hydra, or config.yaml lacks a line that it must hold."""
    for source in sources.values():
        for key, entry in source.leaves.items():
            name = _DEFAULT.sub("", key)
            if _HYDRA.match(name) and (name != key or not source.package):
                raise Refusal(
                    "conf/ sets a part of Hydra itself, which is no part of a recipe",
                    where=f"{name} ({source.file}:{entry.line})",
                    expected="groups and keys of the recipe only",
                    got=f"{name}: {entry.text}",
                    fix="delete the line; what Hydra is told stands where it is used: "
                    "saigen train --multirun hydra/launcher=...",
                )
    config = sources["config"]
    present = [
        _DEFAULT.sub("", key) if key.count(".") > 1 else str(entry.text).strip("'\"")
        for key, entry in config.leaves.items()
        if key.startswith("defaults.")
    ]
    wrong = [(name, "a line of its own") for name in _FRAME if name not in present]
    optional = [name for name in present if name.startswith("optional ") and name not in _FRAME]
    wrong += [(name, "without `optional`") for name in optional]
    for name, wanted in wrong[:1]:
        raise Refusal(
            f"defaults of config.yaml does not hold {name} as it must",
            where=f"defaults.{name} ({config.file})",
            expected=f"{name}: {wanted}",
            got=name if name in present else "nothing",
            fix=f"write it as in the template: {name}: {wanted}",
        )
