"""Attempts: one training of the project under one perturbation, in a copy of it, in a process."""

import itertools
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saigen.analysis.perturbations import Perturbation
from saigen.analysis.run import Run
from saigen.analysis.sandbox import Workplace
from saigen.config.compose import Composition, compose
from saigen.runs.record import read_record

SHORT_STEPS = 48  # of training; evaluation is always whole
_SECONDS = 900  # for one process of a short verification
_COMPOSING = threading.Lock()  # Hydra composes one config at a time


@dataclass(frozen=True)
class Attempt:
    """One training under one perturbation: a run, or how it failed."""

    run: Run | None
    seconds: float
    output: str


class Attempts:
    """Trains one project again and again under a scratch folder."""

    def __init__(self, root: Path, scratch: Path, overrides: Sequence[str], *, full: bool) -> None:
        self.root = root
        self.scratch = scratch
        self._overrides: tuple[str, ...] = (*overrides, "tracking.progress_every_seconds=60.0")
        self.steps = None
        if not full:
            whole = self._composed().config.trainer.max_steps
            self.steps = min(SHORT_STEPS, whole or SHORT_STEPS)
            often = max(1, min(10, self.steps // 3))  # so that a killed run has what to go on from
            short = (
                f"trainer.max_steps={self.steps}",
                f"tracking.checkpoint_every_steps={often}",
            )
            self._overrides = (*self._overrides, *short)
        self.trained_steps = self.steps or SHORT_STEPS  # that there really are, once it is known
        self.composition = self._composed()
        self._numbers = itertools.count(1)

    def make(self, perturbation: Perturbation, observe: Path | None = None) -> Attempt:
        """Train once under a perturbation, in a copy of the project."""
        # a name of an input may hold what a path, or a list of paths, must not
        name = f"{next(self._numbers):03d}-{re.sub('[^a-z]+', '-', perturbation.name.lower())[:40]}"
        workplace = Workplace(self.root, self.scratch / name / perturbation.subfolder / "project")
        composition = self._composed(*perturbation.both, *perturbation.overrides)
        log = self.scratch / f"{name}.log"
        if perturbation.times:
            workplace.reverse_times()
        if perturbation.without:
            workplace.take_away(perturbation.without)
        started, code = time.monotonic(), 0
        with _load() if perturbation.load else nullcontext():
            for plan in self._plans(perturbation, composition, observe):
                code = workplace.run(
                    composition, plan, perturbation.environment, log=log,
                    seconds=_SECONDS if self.steps else None,
                )  # fmt: skip
        folder = workplace.run_folder()
        run = Run(folder, read_record(folder), workplace.root) if folder else None
        return Attempt(
            run=run if run and run.record["complete"] and code == 0 else None,
            seconds=time.monotonic() - started,
            output=log.read_text(encoding="utf-8", errors="replace"),
        )

    def _composed(self, *overrides: str) -> Composition:
        with _COMPOSING:
            return compose((*self._overrides, *overrides), self.root / "conf")

    def _plans(
        self, perturbation: Perturbation, composition: Composition, observe: Path | None
    ) -> Iterator[Mapping[str, Any]]:
        verbs = [["prepare", *composition.overrides], ["train", *composition.overrides]]
        plan = {"perturb": perturbation.perturb, "observe": observe and str(observe)}
        if perturbation.killed:
            # before the first validation, with some behind and ahead, behind all that there are
            steps = self.trained_steps
            late = 2 * steps // 3 + 1
            for step in sorted({steps // 3 + 1, late, max(late, steps - 4)}):
                yield plan | {"verbs": verbs, "kill_at": [step]}
                verbs = verbs[-1:]
        yield plan | {"verbs": verbs}
        if perturbation.measured:
            yield plan | {"verbs": [["evaluate", "last"]]}


@contextmanager
def _load() -> Iterator[None]:
    """Twice as many busy processes as there are cores."""
    with ExitStack() as busy:
        for _ in range(2 * (os.cpu_count() or 1)):
            command = [sys.executable, "-S", "-c", "while True: pass"]
            busy.callback(busy.enter_context(subprocess.Popen(command)).kill)
        yield
