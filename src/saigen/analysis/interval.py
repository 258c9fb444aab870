"""How far a difference of two means may be off, had seeds or examples fallen otherwise.

Each kind of luck gives an interval of its own, and these are added as squares, so that what covers
more is never narrower (one sum of variances with Satterthwaite's degrees of freedom could be:
with two seeds most of the length comes from having two). Nothing is drawn: the same runs give the
same interval.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance
from typing import Literal

import mpmath
import numpy as np

from saigen.config.schema import Comparison

Answer = Literal["better", "worse", "equivalent", "inconclusive"]

# Groups of the jackknife: enough for its own error (1 / sqrt(2 * 99) = 7 %), few enough to compute.
_BLOCKS = 100


@dataclass(frozen=True)
class Spread:
    """A variance of the difference, and the degrees of freedom on which it stands."""

    variance: float
    freedom: float


def of_seeds(a: Sequence[float], b: Sequence[float], *, paired: bool) -> tuple[Spread, ...]:
    """What seeds move in mean(b) - mean(a): a metric for each seed, two or more in a group.

    `paired`: a[i] and b[i] had the same seed, whose luck cancels in the difference.
    """
    if paired:
        return _of_mean([right - left for left, right in zip(a, b, strict=True)])
    return (*_of_mean(a), *_of_mean(b))


def _of_mean(values: Sequence[float]) -> tuple[Spread]:
    return (Spread(variance(values) / len(values), len(values) - 1),)


def of_examples(difference: Callable[[np.ndarray], float], count: int) -> Spread:
    """What the choice of the test examples moves in a difference.

    `difference` gives it for some rows of `count`. A jackknife that deletes one of up to 100
    blocks of neighbouring rows at a time (Shao and Tu 1995, 2.3), so that examples of one origin
    that stand together count as one. It holds for metrics that are smooth in the share of each
    example: means, F1, areas; not for a maximum. With few seeds it is a little too wide, because
    what a seed does to a single example is counted here and in `of_seeds`.
    """
    rows, blocks = np.arange(count), min(count, _BLOCKS)
    without = [difference(np.delete(rows, block)) for block in np.array_split(rows, blocks)]
    centre = fmean(without)
    squares = math.fsum((value - centre) ** 2 for value in without)
    return Spread(squares * (len(without) - 1) / len(without), len(without) - 1)


def half_width(confidence: float, *lucks: Sequence[Spread]) -> float:
    """Half the length of the interval around the difference, for independent kinds of luck.

    The root of the sum of the squares of each one's own (Zou and Donner 2008, for symmetric
    intervals); within one, several variances have the freedom of Welch and Satterthwaite.
    """
    return math.hypot(*(_half_width(confidence, spreads) for spreads in lucks))


def _half_width(confidence: float, spreads: Sequence[Spread]) -> float:
    total = math.fsum(spread.variance for spread in spreads)
    if not total:
        return 0.0
    freedom = total**2 / math.fsum(s.variance**2 / s.freedom for s in spreads)
    return student_t(confidence, freedom) * math.sqrt(total)


def answer(difference: float, half: float, terms: Comparison) -> Answer:
    """What an interval says of B: equivalent if it lies within the margin on either side, better or
    worse if it lies on one side of 0.
    """
    gain = difference if terms.mode == "max" else -difference
    if abs(gain) + half < terms.margin:
        return "equivalent"
    if abs(gain) <= half:
        return "inconclusive"
    return "better" if gain > 0 else "worse"


def student_t(confidence: float, freedom: float) -> float:
    """t with this share of Student's distribution between -t and t: 2.776 for 0.95 and 4."""

    def outside(t: float) -> mpmath.mpf:
        return mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t * t), regularized=True)

    low = high = NormalDist().inv_cdf((1 + confidence) / 2)  # with finite freedom t is larger
    while outside(high) > 1 - confidence:
        high *= 2
    return float(mpmath.findroot(
        lambda t: outside(t) - (1 - confidence), (low, high), solver="anderson", tol=1e-20
    ))  # fmt: skip
