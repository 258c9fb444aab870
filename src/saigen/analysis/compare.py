"""Is the difference between two groups of runs real, and does it matter?

The metric, the margin and the number of seeds are those that every record has held since before
the first step of its run.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Literal

from pydantic import Field

from saigen.analysis.advice import advice
from saigen.analysis.criteria import terms_of
from saigen.analysis.diff import Diff, diff
from saigen.analysis.difference import under
from saigen.analysis.examples import metric_on_rows
from saigen.analysis.group import Group, group_of, is_one_group
from saigen.analysis.interval import Answer, answer, half_width, of_examples, of_seeds
from saigen.analysis.run import Run
from saigen.config.callables import TARGET
from saigen.config.schema import Comparison
from saigen.documents import Document
from saigen.errors import Refusal

_TARGET = f".{TARGET}"


class Side(Document):
    """One group of runs."""

    runs: list[str]
    seeds: int = Field(description="how many; runs with the same seeds count as one")
    mean: float = Field(description="of the metric, over the seeds")
    deviation: float = Field(description="standard deviation over the seeds")
    left_out: list[str] = Field(description="runs of this config that do not count, and why")


class Weighed(Document):
    """The document of `saigen compare --json`."""

    schema_: Literal["saigen-compare-1"] = Field(
        default="saigen-compare-1", serialization_alias="schema"
    )
    a: Side
    b: Side
    terms: Comparison = Field(description="as every record had them before its first step")
    differences: list[str] = Field(description="what can make the groups differ")
    paired: bool = Field(description="whether both groups had the same seeds")
    examples: int = Field(description="in the test split")
    difference: float = Field(description="mean of B minus mean of A")
    half_widths: dict[str, float] = Field(
        description="of the interval around the difference, by what it covers"
    )
    verdict: Answer = Field(description="of B")
    advice: str | None = Field(description="what would decide it; null: it is decided")
    notes: list[str] = Field(description="what the interval does not cover")


def compare(a: Run, b: Run) -> Weighed:
    """Weigh the groups of two runs against each other.

    Raises Refusal if they are one group, have no comparable metric, were not made under the same
    terms, or have fewer seeds than those ask for.
    """
    found = diff(a, b)
    if found.incomparable or is_one_group(a, b):
        raise Refusal(
            "these two groups of runs cannot be compared",
            where=f"{a.name} and {b.name}",
            expected="two recipes that differ in more than seeds, measured on the same examples",
            got=found.incomparable or "one recipe with other seeds, which is one group",
            fix="name a run of another recipe on the same data; `saigen runs` lists them",
        )
    left, right = groups = (group_of(a), group_of(b))
    terms = terms_of(groups)
    values = [list(group.metric(terms.metric).values()) for group in groups]
    difference = fmean(values[1]) - fmean(values[0])
    paired = list(left.runs) == list(right.runs)
    seeds, examples = of_seeds(*values, paired=paired), []
    widths = {"seeds": half_width(terms.confidence, seeds)}
    count = int(b.outcome["predictions"]["rows"])
    if terms.interval_covers == "seeds_and_examples":
        of_a, of_b = (metric_on_rows(group, terms.metric) for group in groups)
        examples = [of_examples(lambda rows: of_b(rows) - of_a(rows), count)]
        widths["seeds_and_examples"] = half_width(terms.confidence, seeds, examples)
    verdict = answer(difference, widths[terms.interval_covers], terms)
    causes = _causes(found)
    return Weighed(
        a=_side(left, values[0]),
        b=_side(right, values[1]),
        terms=terms,
        differences=causes,
        paired=paired,
        examples=count,
        difference=difference,
        half_widths=widths,
        verdict=verdict,
        advice=advice(difference, seeds, examples, count, terms) if verdict == "inconclusive"
        else None,
        notes=list(_notes(groups, terms, len(causes), count)),
    )  # fmt: skip


def _causes(found: Diff) -> list[str]:
    """What may make the groups differ; another callable stands for all its arguments."""
    causes = [d for d in found.differences if d.counts and d.layer != "randomness"]
    called = [d.name.removesuffix(_TARGET) for d in causes if d.name.endswith(_TARGET)]
    shown = [d for d in causes if d.name.endswith(_TARGET) or not under(d.name, called)]
    return [f"{d.title} ({d.values})" for d in shown]


def _side(group: Group, values: Sequence[float]) -> Side:
    return Side(
        runs=[run.name for runs in group.runs.values() for run in runs],
        seeds=len(group.runs),
        mean=fmean(values),
        deviation=stdev(values),
        left_out=group.left_out,
    )


def _notes(groups: Sequence[Group], terms: Comparison, causes: int, count: int) -> Iterator[str]:
    for name, group in zip("AB", groups, strict=True):
        if held := group.held():
            yield f"{', '.join(held)}: one seed in all runs of {name}, so its luck is not covered"
        if len(group.runs) > terms.seeds:
            yield (
                f"{name} has {len(group.runs)} seeds where {terms.seeds} were planned: whoever "
                "adds runs until the answer pleases gets one that pleases"
            )
    if causes > 1:
        yield f"the groups differ in {causes} things; which of them it was, this cannot tell"
    if terms.interval_covers == "seeds":
        yield f"it holds for these {count} test examples, and says nothing of others"
