"""Hydra at work: the files of conf/ laid over each other, overrides on top, references resolved."""

import re
from pathlib import Path
from typing import Any

from saigen.recipe.composer.names import nearest
from saigen.recipe.composer.origins import Origins
from saigen.recipe.composer.overrides import options, parse
from saigen.recipe.composer.sources import Source
from saigen.refusal import Refusal

_IN_FILE = re.compile(r"In '([^']+)': Could not override '([^']+)'")


def lay(
    overrides: tuple[str, ...], conf: Path, sources: dict[str, Source], *, local: bool = True
) -> dict[str, Any]:
    """The composed values, resolved, as plain Python; without conf/local if `local` is False.

    Raises Refusal if Hydra cannot.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            without = [] if local or "local/default" not in sources else ["~local"]
            composed = hydra_compose("config", overrides=[*overrides, *without])
            values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, Origins(conf, sources, overrides)) from error
    except (HydraException, ValueError, RecursionError) as error:
        raise _uncomposed(
            error, overrides, Origins(conf, sources, _picks(overrides, sources))
        ) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _picks(overrides: tuple[str, ...], sources: dict[str, Source]) -> tuple[str, ...]:
    """The overrides that pick an option of a group."""
    return tuple(text for text in overrides if parse(text).key in options(sources))


def _unresolved(error: Any, origins: Origins) -> Refusal:
    """A value that refers to what is not there, to itself, or is `???`."""
    key = str(getattr(error, "full_key", "") or "the config")
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Missing mandatory value" in message:
        return Refusal(
            f"{key} has no value yet",
            where=origins.where(key),
            expected="a value in place of ???",
            got="???",
            fix=f"write the value into the file, or give {key}=VALUE",
        )
    entry = origins.entry(key)
    touched = origins.touched(key)
    text = touched[-1].text if touched else (entry[1].text if entry else message)
    if "ecursive" in message:
        return Refusal(
            f"{key} refers to itself in a circle",
            where=origins.where(key),
            expected="references that end at a value",
            got=str(text),
            fix=f"write a value for {key}, or for one of the keys that it refers to",
        )
    named = re.search(r"'([^']+)'", message)
    near = nearest(named.group(1), origins.keys()) if named else None
    return Refusal(
        f"{key} refers to something that does not exist",
        where=origins.where(key),
        expected="${another.key} of the same config",
        got=f"{text}: {message}",
        fix=f"write ${{{near}}}" if near else f"write the value of {key} itself",
    )


def _uncomposed(error: Exception, overrides: tuple[str, ...], origins: Origins) -> Refusal:
    """An override or a defaults list that Hydra cannot follow."""
    message = " ".join(str(error).split()) or repr(error.__cause__)
    if missing := getattr(error, "missing_cfg_file", None):
        return _no_option(
            str(missing), list(getattr(error, "options", None) or []), origins.sources
        )
    if found := _IN_FILE.match(message):
        return _wrong_default(found.group(1), found.group(2), origins.sources, message)
    blamed = _blamed(message, overrides)
    key = str(getattr(error.__cause__, "full_key", "") or (parse(blamed).key if blamed else ""))
    where = f"command line: {blamed or ' '.join(overrides)}" if overrides else "conf/config.yaml"
    if "Could not override" in message or "Key '" in message:
        near = nearest(key, origins.keys())
        return Refusal(
            f"there is no key {key}",
            where=f"{key} ({where})",
            expected=f"one of {', '.join(_beside(key, origins.keys()))}",
            got=blamed or message,
            fix=f"write {near}=..." if near else "`saigen compose` prints every key",
        )
    sweep = "Ambiguous value" in message or "--multirun" in message
    if sweep:
        return Refusal(
            f"{key or 'the config'} has several values for one run",
            where=f"{key} ({where})",
            expected="one value; a list stands in brackets",
            got=blamed or message,
            fix="add --multirun to run each, or write [a,b] for a list",
        )
    return Refusal(
        f"{blamed or 'the config'} cannot be composed",
        where=f"{key} ({where})".strip(),
        expected="an override in the words of hydra.cc/docs/advanced/override_grammar/basic",
        got=message,
        fix="mend what is named; quote what the shell would change",
    )


def _beside(key: str, known: list[str]) -> list[str]:
    """The keys that stand beside a key, or the groups."""
    parent = key.rpartition(".")[0]
    return [other for other in known if other.rpartition(".")[0] == parent]


def _wrong_default(name: str, key: str, sources: dict[str, Source], message: str) -> Refusal:
    """A defaults list that overrides a group which nothing has picked."""
    source = sources.get(name, sources["config"])
    lines = [entry.line for inside, entry in source.entries.items() if inside.endswith(f"/{key}")]
    near = nearest(key, options(sources))
    return Refusal(
        f"{source.file} overrides {key}, which no defaults list picks",
        where=f"{key} ({source.file}{f':{lines[0]}' if lines else ''})",
        expected=f"one of {', '.join(options(sources))}",
        got=message,
        fix=f"write `override /{near}`" if near else "delete the line",
    )


def _blamed(message: str, overrides: tuple[str, ...]) -> str | None:
    """The override that Hydra complains about: the only one, or the longest that it names."""
    named = [text for text in overrides if text in message or parse(text).key in message]
    return overrides[0] if len(overrides) == 1 else max(named, key=len, default=None)


def _no_option(missing: str, known: list[str], sources: dict[str, Source]) -> Refusal:
    group, _, option = missing.rpartition("/")
    near = nearest(option, known)
    places = [
        f"{source.file}:{entry.line}"
        for source in sources.values()
        for key, entry in source.entries.items()
        if key.startswith("defaults.") and entry.text == option
    ]
    return Refusal(
        f"the group {group or 'of conf/'} has no option {option!r}",
        where=f"{group or option} ({places[0] if places else 'conf/config.yaml'})",
        expected=f"one of {', '.join(known)}" if known else "a group that has a folder in conf/",
        got=option,
        fix=f"write {near or known[0]!r}"
        if known
        else f"add conf/{missing}.yaml, or delete the line",
    )
