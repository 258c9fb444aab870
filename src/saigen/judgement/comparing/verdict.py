"""The verdict: of everything that differs, what most likely made the outcomes differ."""

from collections.abc import Sequence

from pydantic import Field

from saigen.judgement.comparing.difference import CONTINUED, EXPERIMENT, Difference, Place
from saigen.records.document import Document

_PREPARED: tuple[Place, ...] = ("samples", "forward", "selection", "evaluation")

# Causal order; what comes after the steps is later than any step.
IN_TIME: tuple[Place, ...] = (
    "samples", "forward", "gradients", "weights", "selection", "evaluation",
)  # fmt: skip


class Divergence(Document):
    """Where two runs part for the first time."""

    place: Place | None = Field(description="the first thing in causal order; null: nowhere")
    step: int | None = Field(description="counted from 0; null: before or after all steps")
    steps: int = Field(description="steps whose traces could be compared")
    words: str


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
    able = [difference for difference in differences if difference.counts]
    return sorted(
        able,
        key=lambda d: (not _fits(d, divergence.place), d.kind != EXPERIMENT, len(_places(d))),
    )


def verdict(
    names: tuple[str, str],
    differences: Sequence[Difference],
    divergence: Divergence,
    *,
    same_recipe: bool,
    same_outcome: bool,
) -> Verdict:
    """What to believe of two runs."""
    ranked = suspects(differences, divergence)
    told = [f"{difference.layer} {difference.name}" for difference in ranked]
    a, b = names
    if same_outcome:
        if same_recipe:
            return Verdict(sentence="the same recipe gave the same outcome", suspects=[], next=None)
        what = told[0] if told else "what differs"
        sentence = f"the same outcome from another recipe: {what} moved no bit here"
        return Verdict(sentence=sentence, suspects=[], next=None)
    if ranked:
        first = ranked[0]
        fit = "" if _fits(first, divergence.place) else ", though it should show elsewhere"
        sentence = (
            f"most likely {told[0]} ({_short(first.a)} -> {_short(first.b)}): {first.reason}; "
            f"{divergence.words}{fit}"
        )
        return Verdict(sentence=sentence, suspects=told, next=f"saigen diff --confirm {a} {b}")
    found = _circumstance(differences, divergence) if same_recipe else None
    nothing = "VIOLATION: nothing in the recipe differs"
    if not same_recipe:
        nothing = "nothing that differs in the recipe can change a bit"
    sentence = f"{nothing}, and yet {divergence.words}"
    if found is None:
        return Verdict(sentence=sentence, suspects=[], next=f"saigen diff --deep {a} {b}")
    what = f"{found.layer} {found.name}"
    sentence += f"; what must not matter and differs: {what} ({_short(found.a)} -> "
    return Verdict(
        sentence=f"{sentence}{_short(found.b)})",
        suspects=[what],
        next=f"saigen verify --only {found.claim}",
    )


def _circumstance(differences: Sequence[Difference], divergence: Divergence) -> Difference | None:
    """Of the circumstances that a claim covers, the one that most likely broke it: first a
    continuation where the runs part, never one that came later.
    """
    step = -1 if divergence.place == "initial weights" else divergence.step
    able = [d for d in differences if d.claim]
    if step is not None:
        able = [d for d in able if d.name != CONTINUED or step >= _first_step(d)]
    return min(able, key=lambda d: step not in (d.a, d.b) or d.name != CONTINUED, default=None)


def _first_step(continued: Difference) -> int:
    return min(value for value in (continued.a, continued.b) if isinstance(value, int))


def _places(difference: Difference) -> set[Place]:
    shows = set(difference.shows)
    return shows | set(_PREPARED) if "prepared" in shows else shows


def _fits(difference: Difference, place: Place | None) -> bool:
    return place is None or place in _places(difference)


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= 40 else text[:37] + "..."
