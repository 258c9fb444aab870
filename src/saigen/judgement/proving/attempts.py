"""Attempts: one training of the project under one perturbation, in a copy of it, in a process."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saigen.judgement.proving.perturbations import Perturbation
from saigen.judgement.proving.workplace import Workplace, composed
from saigen.judgement.run import Run
from saigen.recipe.composer.compose import Composition
from saigen.records.record import read_record

SHORT_STEPS = 48  # of training; evaluation is always whole
_SECONDS = 900  # for one process of a short verification


@dataclass(frozen=True)
class Attempt:
    """One training under one perturbation: a run, or how it failed."""

    run: Run | None
    seconds: float
    said: str


class Attempts:
    """Trains one project again and again under a scratch folder."""

    def __init__(self, root: Path, scratch: Path, overrides: Sequence[str], *, full: bool) -> None:
        self.root = root
        self.scratch = scratch
        chosen = composed(root, overrides).config
        steps = chosen.trainer.max_steps
        self.steps = None if full else min(SHORT_STEPS, steps or SHORT_STEPS)
        short = () if full else (f"trainer.max_steps={self.steps}",
                                 "tracking.checkpoint_every_steps=10")  # fmt: skip
        self._overrides = (*overrides, *short, "tracking.progress_every_seconds=60.0")
        self.composition = composed(root, self._overrides)
        self._numbers = itertools.count(1)
        self._full = full

    def make(self, perturbation: Perturbation, observe: Path | None = None) -> Attempt:
        """Train once under a perturbation, in a copy of the project."""
        name = f"{next(self._numbers):03d}-{perturbation.name}"
        place = Workplace(self.root, self.scratch / name / perturbation.place / "project")
        composition = composed(self.root, (*self._overrides, *self.asked(perturbation)))
        log = self.scratch / f"{name}.log"
        if perturbation.times:
            place.reverse_times()
        started = time.monotonic()
        with _load() if perturbation.load else nullcontext():
            for plan in self._plans(perturbation, composition, observe):
                code = self._run(place, composition, plan, perturbation.environment, log)
        folder = place.run_folder()
        record = read_record(folder) if folder else None
        whole = folder is not None and record is not None and record["complete"] and code == 0
        return Attempt(
            run=Run(folder, record, place.root) if whole and folder and record else None,
            seconds=time.monotonic() - started,
            said=log.read_text(encoding="utf-8", errors="replace"),
        )

    def asked(self, perturbation: Perturbation) -> tuple[str, ...]:
        """The overrides of an attempt, on top of those of all."""
        chosen = self.composition.config
        return (*perturbation.both(chosen), *perturbation.overrides(chosen))

    def like(self, perturbation: Perturbation, name: str) -> Perturbation:
        """What a perturbed attempt is compared with: nothing perturbed."""
        return Perturbation(name, "", both=perturbation.both)

    def _plans(
        self, perturbation: Perturbation, composition: Composition, observe: Path | None
    ) -> Iterator[Mapping[str, Any]]:
        verbs = [["prepare", *composition.overrides], ["train", *composition.overrides]]
        plan = {"perturb": perturbation.perturb, "observe": observe and str(observe)}
        if perturbation.killed:
            steps = self.steps or SHORT_STEPS
            yield plan | {"verbs": verbs, "kill_at": [steps // 3 + 1]}
            yield plan | {"verbs": verbs[1:], "kill_at": [2 * steps // 3 + 1]}
            verbs = verbs[1:]
        yield plan | {"verbs": verbs}

    def _run(
        self,
        place: Workplace,
        composition: Composition,
        plan: Mapping[str, Any],
        environment: Mapping[str, str],
        log: Path,
    ) -> int:
        process = place.start(composition, plan, environment=environment, log=log)
        try:
            return process.wait(timeout=None if self._full else _SECONDS)
        except subprocess.TimeoutExpired:
            return -1
        finally:
            process.kill()
            process.wait()


@contextmanager
def _load() -> Iterator[None]:
    """Twice as many busy processes as there are cores."""
    busy = [
        subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
