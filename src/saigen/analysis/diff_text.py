"""A diff for people: in a terminal, in a pipe, as a page."""

import html
from collections.abc import Iterator

from saigen.analysis.diff import Diff
from saigen.analysis.difference import BITS, EXPERIMENT, NOTHING, Difference
from saigen.printing import visible_values
from saigen.recipe import LAYERS
from saigen.runs.summary import metrics_line

_BOLD, _END = "\033[1m", "\033[0m"
_COLOURS = {EXPERIMENT: "\033[31m", BITS: "\033[33m", NOTHING: "\033[2m"}
_STYLES = {_BOLD: "font-weight:bold", _COLOURS[EXPERIMENT]: "color:#a00",
           _COLOURS[BITS]: "color:#850", _COLOURS[NOTHING]: "color:#777"}  # fmt: skip
_SHOWN = 20  # detail lines of one difference; --json has them all
_MARGIN = 14


def diff_text(found: Diff, *, colour: bool = False) -> str:
    """A diff as lines; `colour` only where a person looks on."""
    found = Diff.model_validate(visible_values(found.model_dump()))
    text = "\n".join(line.rstrip() for line in _lines(found))
    for code in () if colour else (*_STYLES, _END):
        text = text.replace(code, "")
    return text


def diff_html(found: Diff) -> str:
    """A diff as one page that needs nothing else."""
    text = html.escape(diff_text(found, colour=True)).replace(_END, "</span>")
    for code, style in _STYLES.items():
        text = text.replace(code, f"<span style='{style}'>")
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(found.a.run)} / {html.escape(found.b.run)}</title>"
        f"<pre style='font-size:15px;margin:2em;white-space:pre-wrap'>{text}</pre></html>\n"
    )


def _lines(found: Diff) -> Iterator[str]:
    if found.incomparable:
        yield f"METRICS CANNOT BE COMPARED: {found.incomparable}"
    for letter, side in (("A", found.a), ("B", found.b)):
        yield f"{letter}  {side.run}  {side.started_at[:19]}  {metrics_line(side.metrics)}"
    yield ""
    for layer in LAYERS:
        own = [line for d in found.differences if d.layer == layer for line in _difference(d)]
        yield from _rows(layer, own or ["equal" if found.layers[layer] else "other, see below"])
    surroundings = [d.name for d in found.differences if d.layer == "metadata"]
    yield from _rows("metadata", [", ".join(surroundings)] if surroundings else [])
    yield from _rows("outcome", found.outcome or ["equal"])
    yield from _rows("trace", [found.trace.words])
    yield from _rows("deep", [found.deep.words] if found.deep else [])
    yield ""
    yield from _rows("verdict", [f"{_BOLD}{found.verdict.sentence}{_END}"])
    yield from _rows("tried", [str(trial) for trial in found.trials])
    if found.verdict.next and not found.trials:
        yield from _rows("next", [found.verdict.next])


def _rows(head: str, texts: list[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"{'' if number else head:<{_MARGIN}}{text}"


def _difference(found: Difference) -> Iterator[str]:
    yield f"{_COLOURS[found.kind]}{found.name}: {found.values}{_END}"
    follows = f"; follows from {found.follows}" if found.follows else ""
    yield f"  {found.kind}: {found.reason}{follows}"
    yield from (f"    {text}" for text in found.details[:_SHOWN])
    if (more := len(found.details) - _SHOWN) > 0:
        yield f"    ... and {more} more lines (--json has them)"
