"""A group of runs: one recipe but for its seeds."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from saigen.analysis.run import Run
from saigen.digest import digest_value
from saigen.recipe import LAYERS
from saigen.runs.folders import readable

Seeds = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Group:
    """The complete runs of a recipe, by their seeds; runs of one recipe are one seed's."""

    runs: dict[Seeds, list[Run]]
    left_out: list[str]  # runs of the same config that do not belong to it, and why

    @property
    def first(self) -> Run:
        """One run to stand for all in whatever seeds do not change."""
        return next(iter(self.runs.values()))[0]

    def metric(self, name: str) -> dict[Seeds, float]:
        """A metric of the test split for each seed, the mean over the makings of one."""
        return {
            seeds: fmean(run.outcome["metrics"][name] for run in runs)
            for seeds, runs in self.runs.items()
        }

    def held(self) -> list[str]:
        """The streams whose seed is the same in every run."""
        columns = zip(*self.runs, strict=True)
        return [column[0][0] for column in columns if len(set(column)) == 1]


def group_of(run: Run) -> Group:
    """The group that a run belongs to, of the runs that lie beside it."""
    runs: defaultdict[Seeds, list[Run]] = defaultdict(list)
    left_out: list[str] = []
    own = _without_seeds(run)
    found = readable(run.folder.parent)
    beside = [Run(folder=folder, record=record, root=run.root) for folder, record in found]
    for other in beside if run.folder in [folder for folder, _ in found] else [run]:
        layers = _without_seeds(other)
        if layers["config"] != own["config"]:
            continue
        if other_layers := [name for name in LAYERS if layers[name] != own[name]]:
            left_out.append(f"{other.name}: other {', '.join(other_layers)}")
        elif not other.record["complete"]:
            left_out.append(f"{other.name}: not complete")
        else:
            runs[tuple(other.layer("randomness")["seeds"].items())].append(other)
    return Group(dict(sorted(runs.items())), left_out)


def _without_seeds(run: Run) -> dict[str, str]:
    """The digests of a recipe's layers as they would be if nothing were seeded."""
    config = {key: value for key, value in run.config.items() if key != "randomness"}
    randomness = {k: v for k, v in run.content_of("randomness").items() if k != "seeds"}
    own = {"config": digest_value(config), "randomness": digest_value(randomness)}
    return {name: own.get(name, run.layer(name)["digest"]) for name in LAYERS}


def is_one_group(a: Run, b: Run) -> bool:
    """Whether two runs differ in their seeds at most."""
    return _without_seeds(a) == _without_seeds(b)
