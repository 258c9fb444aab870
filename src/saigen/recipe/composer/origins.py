"""Where a value comes from: the file and line, or the override, that set a key last."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from saigen.recipe.composer.overrides import Override, options, parse
from saigen.recipe.composer.sources import Entry, Source

Where = Callable[[str], str]


class Origins:
    """The history of every key of one composition. Asks Hydra for the order of files, once."""

    def __init__(self, conf: Path, sources: dict[str, Source], overrides: tuple[str, ...]) -> None:
        self._conf = conf
        self.sources = sources
        groups = options(sources)
        self.overrides = tuple(
            override
            for override in map(parse, overrides)
            if override.key not in groups or (override.value or "").startswith("{")
        )
        self._texts = overrides

    def where(self, key: str) -> str:
        """The key, with what set it: ``optimizer.lr (conf/optimizer/adamw.yaml:2)``."""
        if touched := self.touched(key):
            return f"{key} (command line: {touched[-1].text})"
        if found := self.entry(key):
            return f"{key} ({found[0].file}:{found[1].line})"
        return f"{key} ({self._home(key)})"

    def touched(self, key: str) -> list[Override]:
        """The overrides that changed this key, one of its parents, or something below it."""
        return [
            override
            for override in self.overrides
            if f"{key}.".startswith(f"{override.key}.") or override.key.startswith(f"{key}.")
        ]

    def entry(self, key: str) -> tuple[Source, Entry] | None:
        """The file that set the key last, and its line there; overrides left aside."""
        for source, package in reversed(self.order):
            inside = _inside(key, package)
            if inside is not None and inside in source.entries:
                return source, source.entries[inside]
        return None

    def earlier(self, key: str) -> list[str]:
        """The files that set the key before the last one did, with the text they set."""
        set_by = [
            f"{source.file}:{entry.line} ({entry.text})"
            for source, package in self.order
            if (inside := _inside(key, package)) and (entry := source.entries.get(inside))
        ]
        return set_by if self.touched(key) else set_by[:-1]

    def comment(self, key: str) -> str:
        """What the files say behind the key: the last comment that says anything."""
        for source, package in reversed(self.order):
            inside = _inside(key, package)
            if inside is not None and (entry := source.entries.get(inside)) and entry.comment:
                return entry.comment
        return ""

    def keys(self) -> list[str]:
        """Every full key that a file of this composition sets, and every group."""
        given = {
            source.key(inside, package)
            for source, package in self.order
            for inside in source.entries
            if not inside.startswith(("defaults", "hydra"))
        }
        return sorted(given | {package for _, package in self.order if package})

    @cached_property
    def order(self) -> list[tuple[Source, str]]:
        """The files of this composition as they are laid over each other, with their packages."""
        return _laid(self._conf, self.sources, self._texts) or [
            (source, source.package) for source in self.sources.values()
        ]

    def _home(self, key: str) -> str:
        """The file where a key that is missing belongs: that which states its neighbours."""
        while key:
            for source, package in self.order:
                inside = _inside(key, package)
                if package and inside is not None and (not inside or inside in source.entries):
                    return source.file
            key = key.rpartition(".")[0]
        return self.sources["config"].file


def _inside(key: str, package: str) -> str | None:
    if not package:
        return key
    if key == package:
        return ""
    return key[len(package) + 1 :] if key.startswith(f"{package}.") else None


def _laid(
    conf: Path, sources: dict[str, Source], overrides: tuple[str, ...]
) -> list[tuple[Source, str]]:
    """Hydra's own list of files in the order of composition; empty if it cannot be made."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            found = loader.compute_defaults_list("config", list(overrides), RunMode.RUN)
    except (HydraException, OmegaConfBaseException, ValueError):
        return []
    return [
        (sources[default.config_path], default.package or "")
        for default in found.defaults
        if default.config_path in sources
    ]
