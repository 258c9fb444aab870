"""The verdict: of everything that differs, what most likely made the outcomes differ."""

from collections.abc import Sequence

from pydantic import Field

from saigen.analysis.difference import CONTINUED, EXPERIMENT, Difference, Phase
from saigen.analysis.divergence import Divergence
from saigen.analysis.observed_differences import is_observed, never_the_same
from saigen.analysis.run import Run
from saigen.analysis.tables import OTHER_ARRAYS
from saigen.documents import Document
from saigen.runs.record import is_watched, promises_bits

_PREPARED: tuple[Phase, ...] = ("samples", "forward", "selection", "evaluation")


class Verdict(Document):
    """One sentence, the suspects behind it, and what to do next."""

    sentence: str
    suspects: list[str] = Field(description="layer and name, the most likely first")
    next: str | None = Field(description="the command to run next")


def suspects(differences: Sequence[Difference], divergence: Divergence) -> list[Difference]:
    """Differences that can be the cause, the most likely first.

    One that can show at the place where the runs part comes before one that cannot, an intended
    change before a technical one, a particular one before one that could show anywhere.
    """
    return sorted(
        (difference for difference in differences if difference.counts),
        key=lambda d: (not _fits(d, divergence.phase), d.kind != EXPERIMENT, len(_phases(d))),
    )


def verdict(a: Run, b: Run, differences: Sequence[Difference], divergence: Divergence) -> Verdict:
    """What to believe of two runs."""
    ranked = suspects(differences, divergence)
    titles = [difference.title for difference in ranked]
    pair = f"{a.name} {b.name}" if a.name != b.name else f"{a.folder} {b.folder}"
    own = not is_watched(a.record)  # the loop is ours, and can be trained under other values
    same_recipe = a.record["recipe"]["digest"] == b.record["recipe"]["digest"]
    if a.outcome["digest"] == b.outcome["digest"]:
        what = titles[0] if titles else "what differs"
        sentence = f"the same outcome from another recipe: {what} moved no bit here"
        if same_recipe:
            sentence = "the same recipe gave the same outcome"
        return Verdict(sentence=sentence, suspects=[], next=None)
    undeclared = bool(ranked) and same_recipe and is_observed(ranked[0])
    if undeclared or (ranked and ranked[0].reason == OTHER_ARRAYS):
        promised = promises_bits(b.record)
        return Verdict(
            sentence=_undeclared(a, b, ranked[0], divergence, promised=promised),
            suspects=titles,
            next=(f"saigen diff --confirm {pair}" if same_recipe else "saigen verify")
            if own
            else None,
        )
    if ranked:
        fit = "" if _fits(ranked[0], divergence.phase) else ", though it should show elsewhere"
        sentence = (
            f"most likely {titles[0]} ({ranked[0].values}): {ranked[0].reason}; "
            f"{divergence.words}{fit}"
        )
        return Verdict(
            sentence=sentence,
            suspects=titles,
            next=f"saigen diff --confirm {pair}" if own else None,
        )
    nothing = "nothing that differs in the recipe can change a bit"
    violated = same_recipe and promises_bits(b.record)
    if violated:
        nothing = "VIOLATION: nothing in the recipe differs"
        if b.record["metadata"].get("observed") is not None:
            nothing += f", and no input that was observed{_asked(a, b)}"
    elif same_recipe and not own:
        nothing = "nothing that is recorded differs; a loop that is only watched promises no bits"
    elif same_recipe:
        nothing = (
            "nothing in the recipe differs; its reproducibility promises a distribution and no bits"
        )
    sentence = f"{nothing}, and yet {divergence.words}"
    found = _circumstance(differences, divergence) if violated else None
    if found is None:
        return Verdict(
            sentence=sentence, suspects=[], next=f"saigen diff --deep {pair}" if own else None
        )
    return Verdict(
        sentence=f"{sentence}; what must not matter and differs: {found.title} ({found.values})",
        suspects=[found.title],
        next=f"saigen verify --only {found.claim}",
    )


def _undeclared(
    a: Run, b: Run, found: Difference, divergence: Divergence, *, promised: bool
) -> str:
    """What to say where the recipe does not differ, or only in what was prepared from equals."""
    head = "VIOLATION: " if promised else ""
    if is_observed(found):
        return (
            f"{head}nothing in the recipe differs, but what it does not declare: {found.title} "
            f"({found.values}): {found.reason}; {divergence.words}"
        )
    return (
        f"{head}equal snapshot, values and source were prepared otherwise, as {found.name}, and "
        f"no input that was observed differs{_asked(a, b)}; {divergence.words}"
    )


def _asked(a: Run, b: Run) -> str:
    """What was asked in both runs and never tells the same, as words to add."""
    found = never_the_same(a, b)
    return f" (what no record can hold was asked: {', '.join(found[:4])})" if found else ""


def _circumstance(differences: Sequence[Difference], divergence: Divergence) -> Difference | None:
    """Of the metadata that a claim covers, the one that most likely broke it: first a
    continuation where the runs part, never one that came later.
    """
    step = -1 if divergence.phase == "initial weights" else divergence.step

    def came_later(found: Difference) -> bool:
        steps = [value for value in (found.a, found.b) if isinstance(value, int)]
        return found.name == CONTINUED and step is not None and step < min(steps)

    able = [d for d in differences if d.claim and not came_later(d)]
    return min(able, key=lambda d: step not in (d.a, d.b) or d.name != CONTINUED, default=None)


def _phases(difference: Difference) -> set[Phase]:
    shows = set(difference.shows)
    return shows | set(_PREPARED) if "prepared" in shows else shows


def _fits(difference: Difference, phase: Phase | None) -> bool:
    return phase is None or phase in _phases(difference)
