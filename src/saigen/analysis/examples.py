"""The metric of a group on any part of the test split, from what its runs left behind."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from saigen.analysis.group import Group
from saigen.analysis.run import Run
from saigen.arrays import at_work, load_npy
from saigen.config.callables import instantiate
from saigen.config.schema import Call
from saigen.data.predictions import read_predictions
from saigen.digest import digest_bytes
from saigen.documents import regular
from saigen.errors import Refusal

Rows = np.ndarray
Arrays = Mapping[str, np.ndarray]
_PLACE = "test/"


@dataclass(frozen=True)
class _Part(Mapping[str, np.ndarray]):
    """Some rows of some arrays, taken when they are asked for."""

    arrays: Arrays
    rows: Rows

    def __getitem__(self, name: str) -> np.ndarray:
        part: np.ndarray = self.arrays[name][self.rows]
        return part

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def metric_on_rows(group: Group, name: str) -> Callable[[Rows], float]:
    """The group's mean of a metric, as a function of the test rows that count.

    The project's task measures it as `evaluate` does. Raises Refusal if predictions or arrays of a
    run can no longer be had, or do not give the metric of its record.
    """
    # what seeds do not change is the same for all: the task, and the arrays that were measured
    with _at_work(group.first):
        task = instantiate(Call.model_validate(group.first.config["task"]))
    arrays = _evaluated(group.first)
    measures = [[_measure(run, name, task, arrays) for run in runs] for runs in group.runs.values()]

    def mean(rows: Rows) -> float:
        return fmean(fmean(measure(rows) for measure in same) for same in measures)

    return mean


def _measure(run: Run, name: str, task: Any, arrays: Arrays) -> Callable[[Rows], float]:
    path, stated = regular(run.folder, "predictions.csv"), run.outcome["predictions"]
    content = path.read_bytes() if path else b""
    if digest_bytes(content) != stated["sha256"]:
        raise _lost(run, str(run.folder / "predictions.csv"))
    recorded, found = run.outcome["metrics"][name], 0.0
    for floats in (np.float32, np.float64):  # the file tells the shortest text, not the type
        with _at_work(run):
            predictions = read_predictions(content, floats)

        def measure(rows: Rows, predictions: Arrays = predictions) -> float:
            return float(task.metrics(_Part(predictions, rows), _Part(arrays, rows))[name])

        with _at_work(run):
            found = measure(np.arange(min(stated["rows"], len(content))))
        if found == recorded:
            return measure
    raise Refusal(
        "a run's predictions no longer give the metric of its record",
        where=f"{run.name}: {name}",
        expected=repr(recorded),
        got=f"{found!r}, by {run.config['task']['_target_']} as it stands here",
        fix="bring back the task that measured it (`saigen show` names the commit), or choose "
        "comparison.interval_covers=seeds before the next runs",
    )


def _evaluated(run: Run) -> dict[str, np.ndarray]:
    """The arrays of the test split, as the run read them."""
    found: dict[str, Any] = {}
    for path, digest in run.layer("data")["prepared"].items():
        if path.startswith(_PLACE) and path.endswith(".npy"):
            content = run.content(digest, f"prepared/{path}")
            if content is None:
                raise _lost(run, f"prepared/{path}")
            name = path.removeprefix(_PLACE).removesuffix(".npy")
            with _at_work(run):
                found[name] = load_npy(content)
    return found


def _at_work(run: Run) -> AbstractContextManager[None]:
    return at_work(
        "what a run left behind cannot be measured",
        where=str(run.folder),
        fix=f"`saigen audit`; `saigen rerun {run.name}` makes it again",
    )


def _lost(run: Run, what: str) -> Refusal:
    return Refusal(
        "what the examples leave open cannot be told, because a part of a run is not here",
        where=f"{run.name}: {what}",
        expected="the file with the digest of the record",
        got="none",
        fix=f"`saigen rerun {run.name}` makes it again; `dvc pull` brings what was published",
    )
