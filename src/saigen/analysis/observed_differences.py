"""Differences of what was observed: inputs that no layer of a recipe declares."""

import re
from collections.abc import Iterator
from typing import Any

from saigen.analysis.difference import BITS, Difference
from saigen.analysis.run import ABSENT, Run
from saigen.observing.observed import ABSENT as NOT_THERE
from saigen.observing.observed import ALWAYS_ANOTHER
from saigen.observing.secrets import HIDDEN

# The layer in which an input would stand if it were declared.
_LAYERS = {"file": "data", "folder": "data", "module": "code"}
_UNKNOWN = "is not known"  # in the value of what a record cannot hold: a program, a connection

_NUMERIC = re.compile(r"blas|lapack|mkl|omp|svml|atlas|blis|libm\b|math|preload")
_UNDECLARED = "and no layer of the recipe declares it"

_Inputs = dict[tuple[str, str], dict[str, str | None]]  # kind and name: line by value


def observed(a: Run, b: Run) -> list[Difference]:
    """Every input that differs, with the line that asked; none if one record does not know."""
    if a.record["metadata"].get("observed") is None or b.record["metadata"].get("observed") is None:
        return []
    return [*_differences(_inputs(a), _inputs(b)), *_libraries(a, b)]


def never_the_same(a: Run, b: Run) -> list[str]:
    """Inputs of both runs of which no record can say what they told: the clock, a program."""
    both = [
        {
            f"{_title(*key)} ({line})" if line else _title(*key)
            for key, values in _inputs(run).items()
            for value, line in values.items()
            if value == ALWAYS_ANOTHER or value.endswith(_UNKNOWN)
        }
        for run in (a, b)
    ]
    return sorted(both[0] & both[1])


def variables(run: Run) -> dict[str, str]:
    """The variables that a run took in, as far as their values are known and were set."""
    return {
        name: value
        for (kind, name), values in _inputs(run).items()
        for value in values
        if kind == "variable" and value != NOT_THERE and may_be_set(value)
    }


def may_be_set(value: str) -> bool:
    """Whether a record holds the value itself, and not a digest of it."""
    return not value.startswith(HIDDEN) and not re.fullmatch("[0-9a-f]{64}", value)


def is_observed(found: Difference) -> bool:
    """Whether a difference is of an input that no recipe declares."""
    return found.reason.endswith(_UNDECLARED)


def _libraries(a: Run, b: Run) -> Iterator[Difference]:
    """Libraries of the system that are others; where only one run loaded one, if it calculates."""
    left, right = (run.record["metadata"].get("libraries") or {} for run in (a, b))
    for name in sorted(left.keys() | right.keys()):
        old, new = left.get(name, ABSENT), right.get(name, ABSENT)
        if left and right and old != new and (ABSENT not in (old, new) or _NUMERIC.search(name)):
            yield Difference(
                layer="environment", name=f"library {name}", a=old, b=new, kind=BITS,
                reason=f"loaded from the system, {_UNDECLARED}",
            )  # fmt: skip


def _differences(left: _Inputs, right: _Inputs) -> Iterator[Difference]:
    for key in sorted(left.keys() | right.keys()):
        old, new = left.get(key, {}), right.get(key, {})
        if old.keys() == new.keys() or _is_incomparable([*old, *new]):
            continue
        line = next(filter(None, [*new.values(), *old.values()]), None)
        by = f"the project takes it in at {line}" if line else "the run was started with it"
        yield Difference(
            layer=_LAYERS.get(key[0], "environment"), name=_title(*key), a=_shown(old),
            b=_shown(new), kind=BITS, reason=f"{by}, {_UNDECLARED}",
        )  # fmt: skip


def _inputs(run: Run) -> _Inputs:
    found: _Inputs = {}
    for entry in run.record["metadata"].get("observed") or ():
        found.setdefault((entry["kind"], entry["name"]), {})[entry["value"]] = entry["line"]
    return found


def _title(kind: str, name: str) -> str:
    return name if kind == "answer" else f"{kind} {name}"


def _shown(values: dict[str, str | None]) -> Any:
    return ", ".join(sorted(values)) or ABSENT


def _is_incomparable(values: list[str]) -> bool:
    """Whether values are secrets of two clones, each under a key of its own."""
    return len({value[: len(HIDDEN) + 9] for value in values if value.startswith(HIDDEN)}) > 1
