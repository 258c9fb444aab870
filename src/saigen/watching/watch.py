"""Watch a training loop that is not of this template.

    with saigen.watch(model, optimizer, recipe={"lr": 0.1, "seed": 3}, data=["train.csv"]) as run:
        for inputs, targets in loader:
            loss = ...
            run.log(loss=loss)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

A step is a call of `optimizer.step`. It leaves a row in the trace; the loop is not changed, and
nothing is drawn from its generators.
"""

import itertools
import math
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from saigen.digest import digest_bytes
from saigen.environment import machine
from saigen.errors import Failure, Refusal
from saigen.project_code import is_project
from saigen.recipe import recipe_entry
from saigen.runs import folders, ledger, store, uncommitted
from saigen.runs.metadata import now, packages
from saigen.runs.record import (
    json_metrics,
    new_record,
    outcome_digest,
    write_failure,
    write_record,
)
from saigen.training.model_state import exported, weights_bytes
from saigen.watching import layers
from saigen.watching.rows import Rows, digest_of_samples

_count = itertools.count()


class Watch:
    """A training that is watched while this context lasts. Only the first of several processes
    writes a run; in the others nothing happens.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        *,
        recipe: Any = None,
        data: Iterable[str | os.PathLike[str]] = (),
        scheduler: Any = None,
        runs: str | os.PathLike[str] | None = None,
        trainer: Any = None,
    ) -> None:
        """See `watch`; `trainer`: the settings of a framework that has the loop."""
        self._model, self._scheduler = model, scheduler
        several: Sequence[Any] = optimizer if isinstance(optimizer, Sequence) else [optimizer]
        self._optimizers = [_bare(one) for one in several]
        self._recipe, self._data, self._trainer = recipe or {}, tuple(data), trainer or {}
        variable = os.environ.get(folders.RUNS_VARIABLE)
        self._runs = Path(variable or runs or folders.RUNS).absolute()
        self._loss: Tensor | float | None = None
        self._samples = 0
        self._metrics: dict[str, float] = {}
        self._open: ExitStack | None = None
        self.folder: Path | None = None  # of the run; None in all processes but the first

    def __enter__(self) -> Self:
        """Write down what went in, and begin the trace. Raises Refusal on what cannot be."""
        _refuse_unwatchable(self._model, self._optimizers)
        if _rank():
            return self
        self._root = Path.cwd()
        data, outside = layers.of_data(self._root, self._data)
        code = layers.of_code(self._root)
        entry = recipe_entry(
            (
                data,
                layers.of_config(self._recipe, self._optimizers, self._scheduler, self._trainer),
                code,
                layers.of_environment(self._root, self._model),
                layers.of_randomness(),
                layers.of_distribution(_processes()),
            )
        )
        with ExitStack() as held:
            self.folder = held.enter_context(folders.claim(entry["digest"], self._runs, _say))
            files = code.content["files"]
            read = {*files, *data.content["files"]}
            git = uncommitted.state(self._root, among=read)
            self._record = new_record(
                self.folder.name,
                entry,
                {
                    "started_at": now(),
                    "folder": str(self._root),
                    "arguments": sys.argv[1:],
                    "started": _started(self._root) | {"number": next(_count)},
                    "outside": outside,
                    "overrides": [],
                    "machine": machine.machine(),
                    "git": uncommitted.keep(self._root, self.folder, git, files),
                    "config": {},
                    "continued": [],
                    "generators": {"before": layers.generators()},
                },
            )
            store.keep(self._runs, self._root, {**files, **data.content["files"]})
            self._initial = _weights(self._model)
            self._record["outcome"]["weights"] = {
                "sha256": self._initial, "initial": self._initial, "step": 0
            }  # fmt: skip
            write_record(self.folder, self._record)
            others = [self._scheduler] if hasattr(self._scheduler, "state_dict") else []
            self._rows = Rows(self.folder, self._model, self._optimizers, others)
            for optimizer in self._optimizers:
                held.callback(optimizer.register_step_post_hook(self._stepped).remove)
            self._open = held.pop_all()
        return self

    def log(self, *, loss: Tensor | float | None = None, samples: Any = None) -> None:
        """Tell, before `optimizer.step`, what the step is made of: its loss, and the ids of its
        samples in order. What several microbatches tell is added up.
        """
        if self._open is None:
            return
        if loss is not None:
            here = loss.detach().sum() if isinstance(loss, Tensor) else float(loss)
            if isinstance(here, Tensor):
                here = here.item() if here.device.type == "cpu" else here.double()
            self._loss = here if self._loss is None else self._loss + here
        if samples is not None:
            more = digest_of_samples(samples)
            self._samples = (
                digest_of_samples([self._samples >> 1, more >> 1]) if self._samples else more
            )

    def measured(self, **metrics: float) -> None:
        """Tell what was measured: the metrics of the run's outcome."""
        self._metrics |= {name: float(value) for name, value in metrics.items()}

    def _stepped(self, *_: Any) -> None:
        with torch.no_grad():
            self._rows.add(math.nan if self._loss is None else self._loss, self._samples)
        self._loss, self._samples = None, 0

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Write down what came out, or what ended the loop."""
        if self._open is None or self.folder is None:
            return
        with self._open:
            self._open = None
            if error is not None:
                self._rows.flush()
                write_failure(self.folder, "the script ended", f"{type(error).__name__}: {error}")
                return
            self._complete(self.folder)

    def _complete(self, folder: Path) -> None:
        record, trace = self._record, self._rows.close()
        if not trace["steps"]:
            write_failure(folder, "no step was made", "optimizer.step was never called")
            raise _no_step()
        code = record["recipe"]["layers"]["code"]["files"]
        files = [str(path.relative_to(self._root)) for path in layers.loaded(self._root)]
        own = {Path(name).parts[0].removesuffix(".py") for name in files}
        record["metadata"] |= {
            "finished_at": now(),
            "training": {"steps": trace["steps"], "processes": _processes()},
            "imported": {"files": sorted(files), "packages": packages(own)},
        }
        record["metadata"]["generators"]["after"] = layers.generators()
        if late := sorted(set(files) - code.keys()):
            _say(f"note: imported after the start, and not in the recipe: {', '.join(late)}")
        outcome = record["outcome"]
        outcome["weights"] |= {"sha256": _weights(self._model), "step": trace["steps"]}
        outcome["trace"] = trace
        outcome["metrics"] = json_metrics(self._metrics)
        outcome["predictions"] = {"sha256": digest_bytes(b""), "rows": 0}
        outcome["digest"] = outcome_digest(outcome)
        history = ledger.complete(folder, record)
        _say(f"saigen: {folder} ({history})")


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    *,
    recipe: Any = None,
    data: Iterable[str | os.PathLike[str]] = (),
    scheduler: Any = None,
    runs: str | os.PathLike[str] | None = None,
) -> Watch:
    """Watch somebody's own loop, to be used in a `with` statement; the run goes to `runs/`.

    `recipe`: its settings, a mapping or what `argparse` gives. `data`: the files and folders that
    it reads. `scheduler`: what moves the rate, if something does. `runs`: another folder of runs.
    """
    return Watch(model, optimizer, recipe=recipe, data=data, scheduler=scheduler, runs=runs)


def _bare(optimizer: Any) -> Any:
    """The optimizer inside a framework's wrapper, whose hooks nothing calls."""
    while not hasattr(optimizer, "_optimizer_step_post_hooks") and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _refuse_unwatchable(model: Any, optimizers: Sequence[Any]) -> None:
    """Raise Refusal on what has no parameters to look at, or no step that tells."""
    other = [one for one in optimizers if not isinstance(one, torch.optim.Optimizer)]
    if other or not optimizers or not isinstance(model, nn.Module):
        raise Refusal(
            "this cannot be watched",
            where="saigen.watch(model, optimizer)",
            expected="a torch.nn.Module, and a torch.optim.Optimizer or a list of them",
            got=", ".join(type(one).__name__ for one in (model, *optimizers)) or "nothing",
            fix="give the module that is trained and the optimizer inside the wrapper",
        )
    parameters = list(model.parameters())
    if not parameters or any(map(nn.parameter.is_lazy, parameters)):
        raise Refusal(
            "a model without weights cannot be watched",
            where=f"saigen.watch({type(model).__name__}, ...)",
            expected="parameters with their shapes",
            got="a lazy module that has no shape yet" if parameters else "no parameters",
            fix="call the model on a first batch before it is watched, as lazy modules want it",
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _no_step() -> Failure:
    return Failure(
        "no step was made while the training was watched",
        where="saigen.watch",
        expected="calls of optimizer.step of the optimizer that was given",
        got="none",
        fix="give the optimizer that makes the steps, and put the loop inside the `with` statement",
    )


def _weights(model: nn.Module) -> str:
    return digest_bytes(weights_bytes(exported(model)))


def _rank() -> int:
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if group else int(os.environ.get("RANK", "0"))


def _processes() -> int:
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if group else int(os.environ.get("WORLD_SIZE", "1"))


def _started(root: Path) -> dict[str, Any]:
    """How the script was started, as far as it can be started again elsewhere."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    path = Path(file).resolve() if file else None
    own = path is not None and path.is_relative_to(root) and is_project(str(path))
    return {
        "script": str(path.relative_to(root)) if own and path else None,
        "module": spec.name if own and spec else None,
        "paths": layers.module_paths(root),
    }
