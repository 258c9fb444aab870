"""One composer: conf/ and overrides in, one resolved, typed, frozen config out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saigen.config.callables import check_calls
from saigen.config.derive import derive
from saigen.config.fitted import filled, refuse_unfitted
from saigen.config.layers import composed_values
from saigen.config.machine import refuse_machine
from saigen.config.messages import refusal_of
from saigen.config.origins import Origins, Where
from saigen.config.overrides import normalized
from saigen.config.portability import refuse_unportable
from saigen.config.presets import refuse_frame, refuse_presets
from saigen.config.schema import Config
from saigen.config.sources import (
    read_sources,
    read_text,
    refuse_many_files,
    refuse_nothing,
    unreadable,
)
from saigen.digest import canonical_json
from saigen.documents import reason
from saigen.errors import Refusal, refuse_secrets

CONF = Path("conf")
PARAMS = Path("params.yaml")


@dataclass(frozen=True)
class Composition:
    """A composed config: as plain values, as typed object, and what was asked for."""

    values: dict[str, Any]
    config: Config
    overrides: tuple[str, ...]

    @property
    def yaml(self) -> str:
        """The text of params.yaml, to the byte what DVC writes when it composes."""
        from omegaconf import OmegaConf

        return OmegaConf.to_yaml(OmegaConf.create(self.values))


def compose(overrides: tuple[str, ...], conf: Path = CONF) -> Composition:
    """Compose conf/config.yaml with Hydra overrides such as ``model=cnn`` or ``optimizer.lr=0.1``.

    Raises Refusal, with the full key, file and line, on anything that is not wholly stated, known,
    of its type and range, allowed, and the same on every machine.
    """
    sources = read_sources(conf)
    refuse_many_files(sources)
    refuse_nothing(sources, conf)
    refuse_frame(sources)
    refuse_presets(sources, composed=False)
    overrides = normalized(overrides, sources)
    values = composed_values(overrides, conf)
    where = Origins(conf, sources, overrides).where
    refuse_secrets(values, where, "the config")
    composition = typed(values, overrides, where, conf.parent)
    if any(name.startswith("local/") for name in sources):
        # what this machine alone changes is said as if it had been asked for
        composition = replace(composition, overrides=derive(values, conf, start=overrides))
    refuse_presets(sources, composed=True)
    return composition


def read_composed(path: Path) -> Composition:
    """Read a config that was composed before, such as params.yaml or runs/ID/config.yaml.

    It is checked like a new one. Raises Refusal if it is missing, torn, or not valid any more.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not path.is_file():
        raise Refusal(
            "there is no composed config",
            where=str(path),
            expected="a file that `saigen compose` wrote",
            got="nothing",
            fix="run `dvc repro`, or `saigen compose --write`",
        )
    source = read_text(path, path.name, "")
    # YAML as Hydra reads it: 1e-3 is a number
    try:
        values = OmegaConf.to_container(OmegaConf.create(source.text), resolve=False)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise unreadable(str(path), reason(error)) from error

    def where(key: str) -> str:
        entry = source.entries.get(key)
        return f"{key} ({path}:{entry.line})" if entry else f"{key} ({path})"

    if not isinstance(values, dict):
        raise unreadable(str(path), "no mapping")
    refuse_secrets(values, where, "the config")
    return typed({str(key): value for key, value in values.items()}, (), where, Path())


def typed(
    values: dict[str, Any], overrides: tuple[str, ...], where: Where | str, root: Path = Path()
) -> Composition:
    """Check plain values against everything a config must be. Raises Refusal.

    `where` tells file and line of a key, or is the name of the one file that all came from.
    """
    from pydantic import ValidationError

    locate_key: Where = (lambda key: f"{key} ({where})") if isinstance(where, str) else where
    refuse_machine(values, locate_key)
    try:
        config = Config.model_validate_json(canonical_json(values))
    except ValidationError as error:
        raise refusal_of(error, locate_key) from error
    check_calls(values, locate_key, root)
    refuse_unfitted(values, locate_key)
    refuse_unportable(config, locate_key)
    return Composition(values=values, config=config, overrides=overrides)


def with_fitted(config: Config, fitted: Mapping[str, Any], root: Path) -> Config:
    """The config with the numbers that were fitted in their places, checked like any other."""
    values = filled(config, fitted)
    where = "a number that was fitted"
    return config if values is None else typed(values, (), where, root).config
