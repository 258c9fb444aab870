"""Verify: try to break every claim, with the project's own model and data, and keep score."""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from saigen.analysis.attempts import Attempt, Attempts
from saigen.analysis.claims import Claim, Result, Verification, refuse_unknown
from saigen.analysis.diff import Diff, diff
from saigen.analysis.locate import locate
from saigen.analysis.perturbations import INPUTS, Perturbation, of_inputs, perturbations
from saigen.analysis.run import Run, open_run
from saigen.analysis.sandbox import end_all
from saigen.config.compose import CONF
from saigen.config.derive import derive
from saigen.errors import Refusal
from saigen.recipe import LAYERS
from saigen.runs.folders import RESULTS
from saigen.runs.metadata import now
from saigen.runs.record import NAME, repeats

Say = Callable[[str], None]


def verify(
    root: Path, overrides: Sequence[str], say: Say, *, full: bool, only: Sequence[str] = ()
) -> Verification:
    """Try every perturbation (or those of `only`). Raises Refusal if the project does not train."""
    started, published = now(), None if overrides else _published(root)
    if published:
        overrides = derive(published.full_config(), root.resolve() / CONF)
        arguments = " ".join(overrides) or "no overrides"
        say(
            f"verifying {published.name}, which {RESULTS}/ shows: {arguments}; "
            "KEY=VALUE verifies conf/"
        )
    with tempfile.TemporaryDirectory(prefix="saigen-verify-") as scratch:
        attempts = Attempts(root.resolve(), Path(scratch), overrides, full=full)
        chosen = _chosen(perturbations(attempts.composition.config), only)
        say(f"training undisturbed, to have what to compare with ({attempts.steps or 'all'} steps)")
        baseline = attempts.make(Perturbation("baseline", ""))
        if baseline.run is None:
            raise Refusal(
                "the project does not train, so there is nothing to verify",
                where="saigen train " + " ".join(attempts.composition.overrides),
                expected="a complete run",
                got=baseline.output.strip()[-600:],
                fix="mend what it says, then verify again",
            )

        if published and (other := _other_layers(published, baseline.run)):
            say(f"not the recipe of {published.name} any more: {', '.join(other)} changed since")
        metadata = baseline.run.record["metadata"]
        attempts.trained_steps = metadata["training"]["steps"]
        chosen = [
            each
            for plain in chosen
            for each in (plain.name == INPUTS and of_inputs(metadata["observed"] or ())) or [plain]
        ]

        def judged(perturbation: Perturbation) -> Claim:
            claim = _judge(attempts, baseline, perturbation)
            say(str(claim))
            return claim

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            try:
                claims = list(pool.map(judged, chosen))
            except BaseException:
                end_all()
                raise
        broken = [n for n, claim in enumerate(claims) if claim.result == "broken"]
        if broken:
            say("watching line by line where the broken claims part")
        undisturbed: dict[tuple[str, ...], list[Path]] = {}
        for number in broken:
            claims[number] = _placed(attempts, chosen[number], claims[number], undisturbed)
            say(str(claims[number]))
        return Verification(
            steps=attempts.steps,
            started_at=started,
            finished_at=now(),
            machine=baseline.run.record["metadata"]["machine"]["cpu_model"],
            layers={name: baseline.run.layer(name)["digest"] for name in LAYERS},
            config=baseline.run.config,
            claims=claims,
        )


def _published(root: Path) -> Run | None:
    """The run that results/ shows; None if it shows none."""
    shown = root / RESULTS
    return open_run(str(shown), root) if (shown / NAME).is_file() else None


def _other_layers(published: Run, tried: Run) -> list[str]:
    """The layers in which what was tried is not the published run, whatever its length."""
    digests = {name: tried.layer(name)["digest"] for name in LAYERS}
    if repeats(published.record["recipe"]["layers"], digests, tried.config):
        return []
    return [n for n in LAYERS if n != "config" and published.layer(n)["digest"] != digests[n]] or [
        "config"
    ]


def _judge(attempts: Attempts, baseline: Attempt, perturbation: Perturbation) -> Claim:
    """Train under one perturbation and compare with the undisturbed training."""
    both = " ".join(perturbation.both)
    result: Result = "not tried"
    if perturbation.not_made or perturbation.held:
        result = "not made" if perturbation.not_made else "held"
    why = perturbation.not_made or perturbation.held or perturbation.not_tried
    claim = Claim(name=perturbation.name, says=perturbation.claim, result=result, why=why)
    if why:
        return claim
    if both:
        baseline = attempts.make(_undisturbed(perturbation, "reference"))
    if baseline.run is None:
        return claim.model_copy(update={"why": f"it does not train with {both}"})
    attempt = attempts.make(perturbation)
    result, why = _result(perturbation, baseline.run, attempt)
    if result == "broken" and perturbation.asked:
        why = f"taken in at {perturbation.asked}: {why}"
    if both and result == "held":
        why = f"tried with {both} on both sides"
    evidence = {
        "seconds": round(attempt.seconds, 1),
        "overrides": (*perturbation.both, *perturbation.overrides),
        "expected": baseline.run.outcome["digest"],
    }
    if attempt.run is not None:
        metadata = attempt.run.record["metadata"]
        evidence |= {
            "got": attempt.run.outcome["digest"],
            "processes": metadata["training"]["processes"],
            "continued": len(metadata["continued"]),
        }
    return claim.model_copy(update={"result": result, "why": why, "evidence": evidence})


def _undisturbed(perturbation: Perturbation, name: str) -> Perturbation:
    """What a perturbed attempt is compared with."""
    return Perturbation(name, "", both=perturbation.both)


def _result(perturbation: Perturbation, baseline: Run, attempt: Attempt) -> tuple[Result, str]:
    """How a claim stood its trial, and why."""
    if attempt.run is None:
        output = _reason(attempt.output)
        why = output if perturbation.measured else f"the training did not end: {output}"
        return ("fact" if perturbation.fact else "broken"), why
    metadata = attempt.run.record["metadata"]
    if perturbation.killed and not metadata["continued"]:
        return "not tried", "the training ended before it could be killed"
    at_once = metadata["training"]["steps"] == attempt.run.outcome["trace"]["steps"]
    if perturbation.killed and at_once:
        return "not tried", "it was killed before its first checkpoint, so nothing was resumed"
    found = diff(baseline, attempt.run)
    if perturbation.fact:
        return "fact", "the same bits" if found.same_outcome else f"other bits: {found.trace.words}"
    return ("held", "") if found.same_outcome else ("broken", _cause(found))


def _reason(output: str) -> str:
    """What a training that did not end said of it: the refusal, else the end."""
    begun = max(output.rfind(word) for word in ("refused: ", "failed: "))
    words = " ".join(output[max(begun, 0) :].split())
    return words[:400] if begun >= 0 else words[-400:]


def _cause(found: Diff) -> str:
    """What parted, without the differences that the perturbation itself made."""
    prepared = [text for d in found.differences if d.layer == "data" for text in d.details]
    return f"prepare gave other arrays: {prepared[0]}" if prepared else found.trace.words


def _placed(
    attempts: Attempts,
    perturbation: Perturbation,
    claim: Claim,
    undisturbed: dict[tuple[str, ...], list[Path]],
) -> Claim:
    """Name the line behind a broken claim, by watching two processes line by line.

    `undisturbed`: by what is set on both sides, the log of a training that nothing disturbs; where
    a second one had the same outcome, what its log has otherwise is noise, and it is there too.
    """
    both = perturbation.both
    if both not in undisturbed:
        logs = [attempts.scratch / f"undisturbed-{len(undisturbed)}{name}" for name in ("a", "b")]
        plain = _undisturbed(perturbation, "watched")
        runs = [attempts.make(plain, observe=log).run for log in logs]
        outcomes = [run and run.outcome["digest"] for run in runs]
        equal = None not in outcomes and outcomes[0] == outcomes[1]
        undisturbed[both] = logs if equal else logs[:1]
    log = attempts.scratch / f"watched-{len(list(attempts.scratch.glob('watched-*')))}"
    attempts.make(perturbation, observe=log)
    first, *noise = undisturbed[both]
    return claim.model_copy(update={"location": locate(first, log, attempts.root, noise)})


def _chosen(all_: Sequence[Perturbation], only: Sequence[str]) -> list[Perturbation]:
    known = {perturbation.name: perturbation for perturbation in all_}
    refuse_unknown(known, only)
    return [known[name] for name in only or known]
