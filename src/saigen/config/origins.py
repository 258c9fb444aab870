"""Where a value comes from: the file and line, or the override, that set a key last."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from saigen.config.overrides import Override, options, parse
from saigen.config.sources import Entry, Source

Where = Callable[[str], str]


class Origins:
    """The history of every key of one composition. Asks Hydra for the order of files, once."""

    def __init__(self, conf: Path, sources: dict[str, Source], overrides: tuple[str, ...]) -> None:
        self._conf = conf
        self.sources = sources
        groups = options(sources)
        parsed = [parse(text) for text in overrides]
        self._picks = [o for o in parsed if o.key in groups and o.value[:1] != "{"]
        self.overrides = [override for override in parsed if override not in self._picks]

    def where(self, key: str) -> str:
        """The key, with what set it: ``optimizer.lr (conf/optimizer/adamw.yaml:2)``."""
        if touched := self.touched(key):
            return f"{key} (command line: {touched[-1].text})"
        if found := self.set_by(key):
            return f"{key} ({found[-1][0].file}:{found[-1][1].line})"
        return f"{key} ({self._home(key)})"

    def touched(self, key: str) -> list[Override]:
        """The overrides that changed this key, one of its parents, or something below it."""
        return [
            override
            for override in self.overrides
            if f"{key}.".startswith(f"{override.key}.") or override.key.startswith(f"{key}.")
        ]

    def set_by(self, key: str) -> list[tuple[Source, Entry]]:
        """The files that set a key, in the order in which they are laid over each other."""
        return self._history.get(key, [])

    def known(self) -> list[str]:
        """Every full key that a file of this composition sets, and every group."""
        return sorted({*self._history, *(package for _, package in self._order if package)})

    @cached_property
    def _history(self) -> dict[str, list[tuple[Source, Entry]]]:
        found: dict[str, list[tuple[Source, Entry]]] = {}
        for source, package in self._order:
            for inside, entry in source.entries.items():
                if inside.split(".")[0] != "defaults":
                    key = f"{package}.{inside}" if package else inside
                    found.setdefault(key, []).append((source, entry))
        return found

    @cached_property
    def _order(self) -> list[tuple[Source, str]]:
        """Hydra's own list of files, with their packages; all files if it cannot be made."""
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        try:
            with initialize_config_dir(str(self._conf.resolve()), version_base="1.3"):
                loader = GlobalHydra.instance().config_loader()
                picks = [override.text for override in self._picks]
                found = loader.compute_defaults_list("config", picks, RunMode.RUN).defaults
        except (HydraException, OmegaConfBaseException, ValueError):
            return [(source, source.package) for source in self.sources.values()]
        return [
            (self.sources[default.config_path], default.package or "")
            for default in found
            if default.config_path in self.sources
        ]

    def _home(self, key: str) -> str:
        """The file where a key that is missing belongs: that which states its neighbours."""
        while key:
            homes = [source.file for source, package in self._order if package == key]
            homes += [source.file for source, _ in self.set_by(key) if source.package]
            if homes:
                return homes[0]
            key = key.rpartition(".")[0]
        return self.sources["config"].file
