"""What would decide a comparison that is open."""

from bisect import bisect_left
from collections.abc import Sequence
from math import ceil

from saigen.analysis.interval import Spread, answer, half_width
from saigen.config.schema import Comparison

_MOST = 1000  # seeds; more are not proposed


def advice(
    difference: float,
    seeds: Sequence[Spread],
    examples: Sequence[Spread],
    count: int,
    terms: Comparison,
) -> str:
    """How many seeds, or test examples in place of `count`, would probably decide it.

    Probably: if difference and spread stay what they are.
    """

    def decides(wanted: int) -> bool:
        more = [Spread(s.variance * (s.freedom + 1) / wanted, wanted - 1) for s in seeds]
        width = half_width(terms.confidence, more, examples)
        return answer(difference, width, terms) != "inconclusive"

    wanted = bisect_left(range(_MOST + 1), True, lo=2, key=decides)
    if wanted <= _MOST:
        return f"about {wanted} seeds in each group would decide, if the spread stays what it is"
    alone = half_width(terms.confidence, examples)
    # to exclude 0, or to lie within the margin, whichever is nearer
    needed = max(abs(difference), terms.margin - abs(difference))
    if alone >= needed:
        most = ceil(count * (alone / needed) ** 2)
        return (
            f"no number of seeds would decide: {count} test examples alone leave "
            f"+-{alone:.2g}; {most} such examples might"
        )
    return f"more than {_MOST} seeds in each group would be needed"
