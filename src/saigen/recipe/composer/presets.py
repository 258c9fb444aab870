"""Redundancy on purpose: what config.yaml and a preset must say although Hydra could do without.

A group's file that loses a line is found out, because a key is missing then. A preset that loses
a line still composes, into another experiment. So it says at its top which keys it sets::

    # @package _global_
    # sets: model, model.dropout

and `conf/config.yaml` must hold what keeps Hydra's folders out of the way of runs/ and of DVC.
"""

import re
from collections.abc import Iterator

from saigen.recipe.composer.sources import Source
from saigen.refusal import Refusal

_SETS = re.compile(r"^#\s*sets:[ \t]*(.*)$", re.MULTILINE)
_OVERRIDDEN = re.compile(r"defaults\.\d+\.(?:override )?/?([\w/@.-]+)")
_LAUNCHER = re.compile(r"^defaults\.\d+\.(?:override |optional )*/?hydra\b")
_ANY = ("_self_", "experiment", "debug", "optional local")
_HYDRA = {
    "output_subdir": "null",
    "run.dir": ".saigen/hydra",
    "sweep.dir": ".saigen/hydra",
    "sweep.subdir": "${hydra.job.num}",
    "job.chdir": "false",
    "hydra_logging.disable_existing_loggers": "false",
}


def refuse_lost(sources: dict[str, Source]) -> None:
    """Raise Refusal if a preset does not set a key that it says it sets. Before composing."""
    for source, said, sets in _presets(sources):
        if lost := [key for key in said if key not in sets]:
            raise _refusal(
                f"{source.file} says that it sets {lost[0]}, and does not",
                source,
                lost[0],
                f"bring {lost[0]} back, or correct the line `# sets:` at the top",
            )


def refuse_unsaid(sources: dict[str, Source]) -> None:
    """Raise Refusal if a preset sets a key and does not say so. After composing."""
    for source, said, sets in _presets(sources):
        if unsaid := [key for key in sets if key not in said]:
            raise _refusal(
                f"{source.file} sets {unsaid[0]} and does not say so",
                source,
                unsaid[0],
                f"write `# sets: {', '.join(sets)}` below the first line",
            )


def _presets(sources: dict[str, Source]) -> Iterator[tuple[Source, list[str], list[str]]]:
    """Every preset, the keys that it says it sets, and those that it sets."""
    for name, source in sources.items():
        if not source.package and name != "config" and not name.startswith("local/"):
            header = _SETS.search(source.text)
            said = [key.strip() for key in header.group(1).split(",")] if header else []
            yield source, said, what_it_sets(source)


def _refusal(what: str, source: Source, key: str, fix: str) -> Refusal:
    header = _SETS.search(source.text)
    line = source.entries[key].line if key in source.entries else 1
    return Refusal(
        what,
        where=f"{key} ({source.file}:{line})",
        expected=f"a line `# sets: {', '.join(what_it_sets(source))}`",
        got=header.group(0) if header else "no line `# sets: ...`",
        fix=fix,
    )


def what_it_sets(source: Source) -> list[str]:
    """The groups whose option a preset picks, and the keys whose value it gives."""
    picked = [
        found.group(1).replace("/", ".")
        for key in source.entries
        if (found := _OVERRIDDEN.fullmatch(key))
    ]
    given = [key for key in source.leaves if not key.startswith("defaults") and not _listed(key)]
    return list(dict.fromkeys(picked + given))


def _listed(key: str) -> bool:
    return any(part.isdigit() for part in key.split("."))


def refuse_frame(sources: dict[str, Source]) -> None:
    """Raise Refusal if config.yaml lacks a line that it must hold, or holds one that it may not."""
    for source in sources.values():
        for key, found in source.entries.items():
            if _LAUNCHER.search(key):
                raise _launcher(source, key, found.line)
    source = sources["config"]
    present = {
        entry.text.strip("'\"") if key.count(".") == 1 else key.split(".", 2)[2]
        for key, entry in source.leaves.items()
        if key.startswith("defaults.") and entry.text is not None
    }
    optional = {name for name in present if name.startswith("optional ")} - set(_ANY)
    hydra = {k[6:]: e.text for k, e in source.leaves.items() if k.startswith("hydra.")}
    wrong = [("defaults", name, "a line of its own") for name in _ANY if name not in present]
    wrong += [("defaults", name, "without `optional`") for name in sorted(optional)]
    wrong += [("hydra", name, text) for name, text in _HYDRA.items() if hydra.get(name) != text]
    wrong += [("hydra", name, "no such line") for name in hydra if name not in _HYDRA]
    if not wrong:
        return
    part, name, wanted = wrong[0]
    entry = source.entries.get(f"{part}.{name}")
    raise Refusal(
        f"{part} of config.yaml does not hold {name} as it must",
        where=f"{part}.{name} ({source.file}{f':{entry.line}' if entry else ''})",
        expected=f"{name}: {wanted}",
        got=str(entry.text if entry else "nothing"),
        fix=f"write it as in the template: {name}: {wanted}",
    )


def _launcher(source: Source, key: str, line: int) -> Refusal:
    return Refusal(
        "conf/ picks a part of Hydra itself, which is no part of a recipe",
        where=f"{key.split('.', 2)[2]} ({source.file}:{line})",
        expected="groups of the recipe only",
        got=key.split(".", 2)[2],
        fix="delete the line; pick it where it is used: saigen train --multirun hydra/launcher=...",
    )
