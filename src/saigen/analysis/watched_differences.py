"""What differs between two watched loops and not between two runs of the template: declared files,
and generators that nobody need have seeded.
"""

import difflib
from collections.abc import Iterator

from saigen.analysis.difference import BITS, EXPERIMENT, Difference
from saigen.analysis.run import ABSENT, Run
from saigen.errors import Refusal
from saigen.runs.record import is_watched

_LINES = 2000  # of a file, in which lines that came and went are looked for


def refuse_mixed(a: Run, b: Run) -> None:
    """Raise Refusal if one of two runs was watched and the other is of the template."""
    if is_watched(a.record) != is_watched(b.record):
        watched = a if is_watched(a.record) else b
        raise Refusal(
            "these two runs have no recipe in common",
            where=f"{a.folder}, {b.folder}",
            expected="two runs of the template, or two of watched loops",
            got=f"one of each: {watched.name} was watched",
            fix="`saigen runs --json` shows what each of them is made of",
        )


def data(a: Run, b: Run) -> Iterator[Difference]:
    """Every declared file that differs, with the lines that do."""
    left, right = a.layer("data")["files"], b.layer("data")["files"]
    for name in sorted(left.keys() | right.keys()):
        old, new = left.get(name, ABSENT), right.get(name, ABSENT)
        if old != new:
            yield Difference(
                layer="data", name=name, a=old, b=new, kind=EXPERIMENT,
                reason="other data" if ABSENT not in (old, new) else "declared in one run only",
                details=_changed_lines(a.content(left.get(name), name),
                                       b.content(right.get(name), name)),
                shows=["prepared", "initial weights", "gradients", "weights"],
            )  # fmt: skip


def _changed_lines(old: bytes | None, new: bytes | None) -> list[str]:
    if old is None or new is None:
        return ["both versions are needed to name lines, and one is not here"]
    try:
        texts = [content.decode().splitlines() for content in (old, new)]
    except UnicodeDecodeError:
        return [f"{len(old)} and {len(new)} bytes, no text"]
    if len(texts[0]) == len(texts[1]):
        pairs = enumerate(zip(*texts, strict=True), 1)
        return [f"line {n}: {x[:80]} -> {y[:80]}" for n, (x, y) in pairs if x != y]
    if max(map(len, texts)) > _LINES:
        return [f"{len(texts[0])} -> {len(texts[1])} lines"]
    found = difflib.unified_diff(texts[0], texts[1], n=0, lineterm="")
    return [line[:160] for line in found][2:]


def generators(a: Run, b: Run) -> Iterator[Difference]:
    """Generators that no seed is recorded of, and that stood otherwise when the watch began."""
    positions = [run.record["metadata"]["generators"] for run in (a, b)]
    for name in ("python", "numpy"):
        left, right = (one["before"].get(name, ABSENT) for one in positions)
        if left != right:
            drawn = any(
                one["before"].get(name) != one.get("after", {}).get(name) for one in positions
            )
            yield Difference(
                layer="randomness", name=f"generator of {name}", a=left, b=right,
                kind=EXPERIMENT if drawn else BITS,
                reason="other luck: it was drawn from in the loop" if drawn else
                "it was not drawn from in the loop, and may have been before",
            )  # fmt: skip
