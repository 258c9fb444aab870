"""A comparison for people."""

from collections.abc import Iterator

from saigen.analysis.compare import Side, Weighed
from saigen.printing import one_line

_MARGIN = 14
_COVERED = {
    "seeds": "other seeds, these {n} examples",
    "seeds_and_examples": "other seeds, {n} other examples like these",
}


def weighed_text(found: Weighed) -> str:
    """A comparison as lines."""
    rows = ((head if not n else "", text) for head, texts in _rows(found)
            for n, text in enumerate(texts))  # fmt: skip
    return "\n".join(one_line(f"{head:<{_MARGIN}}{text}") for head, text in rows)


def _rows(found: Weighed) -> Iterator[tuple[str, list[str]]]:
    terms = found.terms
    yield "A", list(_side(found.a, terms.metric))
    yield "B", list(_side(found.b, terms.metric))
    yield "differ in", found.differences or ["nothing that can change a bit"]
    pairs = "paired by seed" if found.paired else "other seeds in A than in B"
    yield "B - A", [f"{found.difference:+.4g} ({pairs})"]
    yield (
        f"{100 * terms.confidence:g} % interval",
        [
            f"{found.difference - half:+.4g} to {found.difference + half:+.4g}: "
            + _COVERED[name].format(n=found.examples)
            for name, half in found.half_widths.items()
        ],
    )
    yield "margin", [f"{terms.margin:g}, as agreed in the records before their first step"]
    yield "verdict", [_sentence(found)]
    yield "note", found.notes


def _side(side: Side, metric: str) -> Iterator[str]:
    several = f"{side.runs[0]} ... {side.runs[-1]}" if len(side.runs) > 1 else side.runs[0]
    spread = f"deviation {side.deviation:.2g} over {side.seeds} seeds"
    yield f"{metric} {side.mean:.4f}, {spread}  {several}"
    yield from (f"  left out: {text}" for text in side.left_out)


def _sentence(found: Weighed) -> str:
    if found.verdict == "inconclusive":
        return f"inconclusive: {found.advice}"
    if found.verdict == "equivalent":
        half = found.half_widths[found.terms.interval_covers]
        luck = "luck alone gives as much" if abs(found.difference) <= half else "not by luck"
        return f"equivalent: they differ by less than the margin, and {luck}"
    return f"B is {found.verdict}, and not by luck"
