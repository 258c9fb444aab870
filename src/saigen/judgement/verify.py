"""Verify: try to break every claim, with the project's own model and data, and keep score."""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saigen.judgement import locate
from saigen.judgement.claims import Claim, Result, Verification
from saigen.judgement.diff import diff
from saigen.judgement.perturbations import PERTURBATIONS, Perturbation
from saigen.judgement.run import Run
from saigen.judgement.workplace import Workplace, composed
from saigen.recipe.compose import Composition
from saigen.records.circumstances import now
from saigen.records.record import read_record
from saigen.refusal import Refusal

SHORT_STEPS = 48  # of training; evaluation is always whole
_SECONDS = 900  # for one process of a short verification


@dataclass(frozen=True)
class Attempt:
    """One training under one perturbation: a run, or how it failed."""

    run: Run | None
    seconds: float
    said: str


class Verifier:
    """Runs perturbed trainings of one project under a scratch folder."""

    def __init__(self, root: Path, scratch: Path, overrides: Sequence[str], *, full: bool) -> None:
        self._root = root
        self._scratch = scratch
        chosen = composed(root, overrides).config
        steps = chosen.trainer.max_steps
        self.steps = None if full else min(SHORT_STEPS, steps or SHORT_STEPS)
        short = () if full else (f"trainer.max_steps={self.steps}",
                                 "tracking.checkpoint_every_steps=10")  # fmt: skip
        self._overrides = (*overrides, *short, "tracking.progress_every_seconds=60.0")
        self.composition = composed(root, self._overrides)
        self._numbers = itertools.count(1)
        self._full = full

    def attempt(self, perturbation: Perturbation, observe: Path | None = None) -> Attempt:
        """Train once under a perturbation, in a copy of the project."""
        name = f"{next(self._numbers):03d}-{perturbation.name}"
        place = Workplace(self._root, self._scratch / name / perturbation.place / "project")
        composition = composed(
            self._root, (*self._overrides, *perturbation.overrides(self.composition.config))
        )
        log = self._scratch / f"{name}.log"
        if perturbation.times:
            place.reverse_times()
        started = time.monotonic()
        with _load() if perturbation.load else _quiet():
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


def verify(
    root: Path,
    overrides: Sequence[str],
    say: Callable[[str], None],
    *,
    full: bool,
    only: Sequence[str] = (),
) -> Verification:
    """Try every perturbation (or those of `only`). Raises Refusal if the project does not train."""
    chosen = _chosen(only)
    started = now()
    with tempfile.TemporaryDirectory(prefix="saigen-verify-") as scratch:
        verifier = Verifier(root.resolve(), Path(scratch), overrides, full=full)
        say(f"training undisturbed, to have what to compare with ({verifier.steps or 'all'} steps)")
        baseline = verifier.attempt(Perturbation("baseline", ""))
        if baseline.run is None:
            raise Refusal(
                "the project does not train, so there is nothing to verify",
                where="saigen train " + " ".join(verifier.composition.overrides),
                expected="a complete run",
                got=baseline.said.strip()[-600:],
                fix="mend what it says, then verify again",
            )

        def judged(perturbation: Perturbation) -> Claim:
            claim = _judge(verifier, baseline, perturbation)
            say(str(claim))
            return claim

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            claims = list(pool.map(judged, chosen))
        _place_broken(verifier, claims, say)
        return Verification(
            steps=verifier.steps,
            started_at=started,
            finished_at=now(),
            machine=baseline.run.record["circumstances"]["machine"]["cpu_model"],
            layers={
                name: layer["digest"]
                for name, layer in baseline.run.record["recipe"]["layers"].items()
            },
            config=baseline.run.config,
            claims=claims,
        )


def _judge(verifier: Verifier, baseline: Attempt, perturbation: Perturbation) -> Claim:
    def claim(result: Result, **told: Any) -> Claim:
        return Claim(name=perturbation.name, says=perturbation.claim, result=result, **told)

    if reason := perturbation.not_tried(verifier.composition.config):
        return claim("not tried", why=reason)
    attempt = verifier.attempt(perturbation)
    assert baseline.run is not None
    evidence = {"seconds": round(attempt.seconds, 1), "expected": baseline.run.outcome["digest"]}
    if attempt.run is None:
        why = "the training did not end: " + " ".join(attempt.said.split())[-400:]
        return claim("fact" if perturbation.fact else "broken", why=why, evidence=evidence)
    found = diff(baseline.run, attempt.run)
    evidence["got"] = attempt.run.outcome["digest"]
    if perturbation.fact:
        why = "the same bits" if found.same_outcome else f"other bits: {found.trace.words}"
        return claim("fact", why=why, evidence=evidence)
    if found.same_outcome:
        return claim("held", evidence=evidence)
    return claim("broken", why=_cause(found), evidence=evidence)


def _cause(found: Any) -> str:
    """What parted, without the differences that the perturbation itself made."""
    prepared = [text for d in found.differences if d.layer == "data" for text in d.details]
    if prepared:
        return f"prepare gave other arrays: {prepared[0]}"
    return str(found.trace.words)


def _place_broken(verifier: Verifier, claims: list[Claim], say: Callable[[str], None]) -> None:
    """Name the line behind each broken claim, by watching two processes line by line."""
    broken = [number for number, claim in enumerate(claims) if claim.result == "broken"]
    if not broken:
        return
    say("watching line by line where the broken claims part")
    logs = [verifier._scratch / f"watched-{name}" for name in ("a", "b")]
    watched = [verifier.attempt(Perturbation("watched", ""), observe=log).run for log in logs]
    if watched[0] is None:
        say("the watched training did not end, so no line can be named")
        return
    outcomes = {run.outcome["digest"] for run in watched if run is not None}
    noise = logs[1] if None not in watched and len(outcomes) == 1 else None
    for number in broken:
        claim = claims[number]
        known = next((p for p in PERTURBATIONS if p.name == claim.name), None)
        if known is None:
            continue
        log = verifier._scratch / f"watched-{claim.name}"
        verifier.attempt(known, observe=log)
        place = locate.locate(logs[0], log, verifier._root, noise)
        if place is not None:
            claims[number] = claim.model_copy(update={"place": place})
        say(str(claims[number]))


def _chosen(only: Sequence[str]) -> list[Perturbation]:
    known = {perturbation.name: perturbation for perturbation in PERTURBATIONS}
    for name in only:
        if name not in known:
            raise Refusal(
                "there is no such claim",
                where="saigen verify --only",
                expected=", ".join(known),
                got=name,
                fix="write one of these",
            )
    return [known[name] for name in only] or list(PERTURBATIONS)


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


@contextmanager
def _quiet() -> Iterator[None]:
    yield
