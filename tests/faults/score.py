"""The bench's score: how many of the planted causes were detected, and called by their names."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_PARTS = ("detected", "layer right", "name right")


class Score:
    """What was found of one planted cause; a part that nobody sets was not found."""

    def __init__(self) -> None:
        self.parts = dict.fromkeys(_PARTS, False)

    def __call__(self, *, detected: bool, layer: bool, name: bool, told: object) -> None:
        """Set all parts, and fail unless all are true; `told` is shown then."""
        self.parts = dict(zip(_PARTS, (detected, layer, name), strict=True))
        assert all(self.parts.values()), f"{self.parts}: {told}"


@contextmanager
def scored(node: pytest.Item) -> Iterator[Score]:
    """A score that travels with the test's report, from an xdist worker, too."""
    score = Score()
    yield score
    node.user_properties.append(("fault", score.parts))


def summary(stats: dict[str, list[object]]) -> str | None:
    """One line over all reports of a session; None if no fault was planted."""
    reports = [report for several in stats.values() for report in several]
    found = [
        value
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == "fault"
    ]
    told = (f"{part} {sum(one[part] for one in found)}" for part in _PARTS)
    return f"{len(found)} planted causes: {', '.join(told)}" if found else None
