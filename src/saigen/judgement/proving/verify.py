"""Verify: try to break every claim, with the project's own model and data, and keep score."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from saigen.judgement.comparing.diff import diff
from saigen.judgement.proving import locate
from saigen.judgement.proving.attempts import Attempt, Attempts
from saigen.judgement.proving.claims import Claim, Result, Verification
from saigen.judgement.proving.perturbations import PERTURBATIONS, Perturbation
from saigen.judgement.run import Run
from saigen.records.circumstances import now
from saigen.refusal import Refusal


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
        attempts = Attempts(root.resolve(), Path(scratch), overrides, full=full)
        say(f"training undisturbed, to have what to compare with ({attempts.steps or 'all'} steps)")
        baseline = attempts.make(Perturbation("baseline", ""))
        if baseline.run is None:
            raise Refusal(
                "the project does not train, so there is nothing to verify",
                where="saigen train " + " ".join(attempts.composition.overrides),
                expected="a complete run",
                got=baseline.said.strip()[-600:],
                fix="mend what it says, then verify again",
            )

        def judged(perturbation: Perturbation) -> Claim:
            claim = _judge(attempts, baseline, perturbation)
            say(str(claim))
            return claim

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            claims = list(pool.map(judged, chosen))
        _place_broken(attempts, claims, say)
        return Verification(
            steps=attempts.steps,
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


def _judge(attempts: Attempts, baseline: Attempt, perturbation: Perturbation) -> Claim:
    """Train under one perturbation and compare with the undisturbed training."""
    why = perturbation.not_tried(attempts.composition.config) or ""
    evidence: dict[str, Any] = {}
    both = perturbation.both(attempts.composition.config)
    if both and not why:
        baseline = attempts.make(attempts.like(perturbation, "reference"))
    if baseline.run is None:
        why = f"it does not train with {' '.join(both)}"
    if why or baseline.run is None:
        result: Result = "not tried"
    else:
        attempt = attempts.make(perturbation)
        evidence = _evidence(attempts, perturbation, baseline.run, attempt)
        result, why = _result(perturbation, baseline.run, attempt)
        if both and result == "held":
            why = f"tried with {' '.join(both)} on both sides"
    return Claim(
        name=perturbation.name, says=perturbation.claim, result=result, why=why, evidence=evidence
    )


def _result(perturbation: Perturbation, baseline: Run, attempt: Attempt) -> tuple[Result, str]:
    """How a claim stood its trial, and why."""
    if attempt.run is None:
        why = "the training did not end: " + " ".join(attempt.said.split())[-400:]
        return ("fact" if perturbation.fact else "broken"), why
    if perturbation.killed and not attempt.run.record["circumstances"]["continued"]:
        return "not tried", "the training ended before it could be killed"
    found = diff(baseline, attempt.run)
    if perturbation.fact:
        return "fact", "the same bits" if found.same_outcome else f"other bits: {found.trace.words}"
    return ("held", "") if found.same_outcome else ("broken", _cause(found))


def _evidence(
    attempts: Attempts, perturbation: Perturbation, baseline: Run, attempt: Attempt
) -> dict[str, Any]:
    """What was run, and what came out, for whoever wants to see it again."""
    found = {
        "seconds": round(attempt.seconds, 1),
        "overrides": attempts.asked(perturbation),
        "expected": baseline.outcome["digest"],
    }
    if attempt.run is None:
        return found
    circumstances = attempt.run.record["circumstances"]
    return found | {
        "got": attempt.run.outcome["digest"],
        "processes": circumstances["training"]["processes"],
        "continued": len(circumstances["continued"]),
    }


def _cause(found: Any) -> str:
    """What parted, without the differences that the perturbation itself made."""
    prepared = [text for d in found.differences if d.layer == "data" for text in d.details]
    if prepared:
        return f"prepare gave other arrays: {prepared[0]}"
    return str(found.trace.words)


def _place_broken(attempts: Attempts, claims: list[Claim], say: Callable[[str], None]) -> None:
    """Name the line behind each broken claim, by watching two processes line by line."""
    broken = [number for number, claim in enumerate(claims) if claim.result == "broken"]
    if not broken:
        return
    say("watching line by line where the broken claims part")
    known = {perturbation.name: perturbation for perturbation in PERTURBATIONS}
    watched: dict[tuple[str, ...], list[Path]] = {}
    for number in broken:
        claim = claims[number]
        perturbation = known[claim.name]
        both = perturbation.both(attempts.composition.config)
        if both not in watched:
            watched[both] = _watch(attempts, attempts.like(perturbation, "watched"), len(watched))
        log = attempts.scratch / f"watched-{claim.name}"
        attempts.make(perturbation, observe=log)
        place = locate.locate(watched[both][0], log, attempts.root, watched[both][1:])
        if place is not None:
            claims[number] = claim.model_copy(update={"place": place})
        say(str(claims[number]))


def _watch(attempts: Attempts, perturbation: Perturbation, number: int) -> list[Path]:
    """The log of a training that nothing disturbs; where a second one had the same outcome, what
    its log has otherwise is noise, and it is returned too.
    """
    logs = [attempts.scratch / f"undisturbed-{number}{name}" for name in ("a", "b")]
    runs = [attempts.make(perturbation, observe=log).run for log in logs]
    outcomes = [run and run.outcome["digest"] for run in runs]
    return logs if None not in outcomes and len(set(outcomes)) == 1 else logs[:1]


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
