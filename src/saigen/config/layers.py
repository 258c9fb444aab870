"""Hydra at work: the files of conf/ laid over each other, overrides on top, references resolved."""

import re
from pathlib import Path
from typing import Any

from saigen.config.keys import nearest
from saigen.config.origins import Origins
from saigen.config.overrides import no_option, options, parse
from saigen.config.sources import Source, read_sources
from saigen.errors import Refusal

_REFERENCE = re.compile(r"\$\{\s*(\.*)([^${}:]+)\}")
_NESTED = re.compile(r"\$\{[^}]*\$\{")
_CHARACTERS = 1 << 20  # of one value, references followed
_IN_FILE = re.compile(r"In '([^']+)': Could not override '([^']+)'")


def composed_values(
    overrides: tuple[str, ...], conf: Path, *, local: bool = True
) -> dict[str, Any]:
    """The composed values, resolved, as plain Python; without conf/local if `local` is False.

    Raises Refusal if Hydra cannot.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    without = () if local or not (conf / "local/default.yaml").is_file() else ("~local",)
    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            composed = hydra_compose("config", overrides=[*overrides, *without])
            _refuse_growing(OmegaConf.to_container(composed, resolve=False), conf, overrides)
            values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _unresolved(error, Origins(conf, read_sources(conf), overrides)) from error
    except (HydraException, ValueError, RecursionError) as error:
        origins = Origins(conf, read_sources(conf), overrides)
        raise _uncomposed(error, overrides, origins) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _refuse_growing(tree: Any, conf: Path, overrides: tuple[str, ...]) -> None:
    """Raise Refusal if a few references in each other stand for more than a config's size, or if
    one is made of another, so that nobody can tell.
    """
    sizes: dict[tuple[str, ...], int] = {}

    def size(path: tuple[str, ...], value: Any) -> int:
        if path in sizes:
            return sizes[path]
        sizes[path] = 1  # met again inside itself: a circle, which OmegaConf names
        if isinstance(value, dict | list):
            named = value.items() if isinstance(value, dict) else enumerate(value)
            total = 1 + sum(size((*path, str(name)), inner) for name, inner in named)
        else:
            text = value if isinstance(value, str) else ""
            inner = [_followed(tree, path, *found) for found in _REFERENCE.findall(text)]
            total = 1 + len(text) + sum(size(*found) for found in inner if found)
            if total > _CHARACTERS or _NESTED.search(text):
                key = ".".join(path)
                raise Refusal(
                    "references stand for too much",
                    where=Origins(conf, read_sources(conf), overrides).where(key),
                    expected=f"values of at most {_CHARACTERS} characters in all, references "
                    "followed, and none made of another",
                    got=f"{key}: {text[:200]}",
                    fix="write the value itself in place of the reference",
                )
        sizes[path] = total
        return total

    size((), tree)


def _followed(tree: Any, path: tuple[str, ...], dots: str, name: str) -> Any:
    """Path and value of what a reference at a path names; None if it names nothing."""
    base = path[: len(path) - len(dots)] if dots else ()
    value = tree
    whole = (*base, *re.findall(r"[^.\[\]\s]+", name))
    for part in whole:
        try:
            value = value[int(part) if isinstance(value, list) else part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return whole, value


def _unresolved(error: Any, origins: Origins) -> Refusal:
    """A value that refers to what is not there, to itself, or is `???`."""
    key = str(getattr(error, "full_key", "") or "the config")
    message = str(error).splitlines()[0] if str(error) else type(error).__name__
    touched, set_by = origins.touched(key), origins.set_by(key)
    text = touched[-1].text if touched else set_by[-1][1].text if set_by else message
    if "Missing mandatory value" in message:
        what, expected, got = f"{key} has no value yet", "a value in place of ???", "???"
        fix = f"write the value into the file, or give {key}=VALUE"
    elif "ecursive" in message:
        what, got = f"{key} refers to itself in a circle", str(text)
        expected = "references that end at a value"
        fix = f"write a value for {key}, or for one of the keys that it refers to"
    else:
        what, got = f"{key} refers to something that does not exist", f"{text}: {message}"
        expected = "${another.key} of the same config"
        named = re.search(r"'([^']+)'", message)
        near = nearest(named.group(1), origins.known()) if named else None
        fix = f"write ${{{near}}}" if near else f"write the value of {key} itself"
    return Refusal(what, where=origins.where(key), expected=expected, got=got, fix=fix)


def _uncomposed(error: Exception, overrides: tuple[str, ...], origins: Origins) -> Refusal:
    """An override or a defaults list that Hydra cannot follow."""
    message = " ".join(str(error).split()) or repr(error.__cause__)
    if missing := getattr(error, "missing_cfg_file", None):
        return _no_file(str(missing), getattr(error, "options", None) or [], origins.sources)
    if found := _IN_FILE.match(message):
        return _wrong_default(found.group(1), found.group(2), origins.sources, message)
    # the override that Hydra complains about: the only one, or the longest that it names
    named = [text for text in overrides if text in message or parse(text).key in message]
    blamed = overrides[0] if len(overrides) == 1 else max(named, key=len, default="")
    key = str(getattr(error.__cause__, "full_key", "") or (parse(blamed).key if blamed else ""))
    fix = "mend what is named; quote what the shell would change"
    if "Could not override" in message or "Key '" in message:
        parent, known = key.rpartition(".")[0], origins.known()
        near = nearest(key, known)
        beside = [other for other in known if other.rpartition(".")[0] == parent]
        what, expected = f"there is no key {key}", f"one of {', '.join(beside)}"
        fix = f"write {near}=..." if near else "`saigen compose` prints every key"
    elif "Ambiguous value" in message or "--multirun" in message:
        what = f"{key or 'the config'} has several values for one run"
        expected = "one value; a list stands in brackets"
        fix = "add --multirun to run each, or write [a,b] for a list"
    else:
        what = f"{blamed or 'the config'} cannot be composed"
        expected = "an override in the words of hydra.cc/docs/advanced/override_grammar/basic"
        blamed = ""
    location = f"command line: {blamed or ' '.join(overrides)}" if overrides else "conf/config.yaml"
    where = f"{key} ({location})".strip()
    return Refusal(what, where=where, expected=expected, got=blamed or message, fix=fix)


def _wrong_default(name: str, key: str, sources: dict[str, Source], message: str) -> Refusal:
    """A defaults list that overrides a group which nothing has picked."""
    source, known = sources.get(name, sources["config"]), options(sources)
    lines = [f":{e.line}" for inside, e in source.entries.items() if inside.endswith(f"/{key}")]
    near = nearest(key, known)
    return Refusal(
        f"{source.file} overrides {key}, which no defaults list picks",
        where=f"{key} ({source.file}{lines[0] if lines else ''})",
        expected=f"one of {', '.join(known)}",
        got=message,
        fix=f"write `override /{near}`" if near else "delete the line",
    )


def _no_file(missing: str, known: list[str], sources: dict[str, Source]) -> Refusal:
    """A defaults list that picks an option which does not exist."""
    group, _, option = missing.rpartition("/")
    locations = [
        f"{source.file}:{entry.line}"
        for source in sources.values()
        for key, entry in source.entries.items()
        if key.startswith("defaults.") and entry.text == option
    ]
    write = repr(nearest(option, known) or known[0]) if known else f"add conf/{missing}.yaml"
    return no_option(group, option, known, locations[0] if locations else "conf/config.yaml", write)
