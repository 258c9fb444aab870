"""A diff for people: in a terminal, in a pipe, as a page."""

import html
from collections.abc import Iterator

from saigen.judgement.comparing.diff import Diff
from saigen.judgement.comparing.difference import BITS, EXPERIMENT, NOTHING, Difference
from saigen.recipe.layer import LAYERS

_COLOURS = {EXPERIMENT: "31", BITS: "33", NOTHING: "2"}
_SHOWN = 20  # detail lines of one difference; --json has them all
_MARGIN = 14


def diff_text(found: Diff, *, colour: bool) -> str:
    """A diff as lines; `colour` only where a person looks on."""
    lines = list(_head(found))
    for layer in (*LAYERS, "circumstances"):
        own = [d for d in found.differences if d.layer == layer]
        if layer == "circumstances":
            lines += [_row(layer, ", ".join(d.name for d in own))] if own else []
            continue
        if not own:
            lines.append(_row(layer, "equal" if found.layers[layer] else "other, see below"))
        for number, difference in enumerate(own):
            lines += _difference(layer if not number else "", difference, colour=colour)
    told = found.outcome or ["equal"]
    lines += [_row("outcome" if not number else "", text) for number, text in enumerate(told)]
    lines.append(_row("trace", found.trace.words))
    lines += [_row("deep", found.deep.words)] if found.deep else []
    lines.append("")
    bold = ("\033[1m", "\033[0m") if colour else ("", "")
    lines.append(_row("verdict", f"{bold[0]}{found.verdict.sentence}{bold[1]}"))
    lines += [_row("tried" if not n else "", str(t)) for n, t in enumerate(found.trials)]
    if found.verdict.next and not found.trials:
        lines.append(_row("next", found.verdict.next))
    return "\n".join(line.rstrip() for line in lines)


def diff_html(found: Diff) -> str:
    """A diff as one page that needs nothing else."""
    rows = "".join(
        f"<tr class='{'abn'[(EXPERIMENT, BITS, NOTHING).index(d.kind)]}'><td>{d.layer}</td>"
        f"<td>{html.escape(d.name)}</td><td>{html.escape(_short(d.a))}</td>"
        f"<td>{html.escape(_short(d.b))}</td><td>{d.kind}: {html.escape(d.reason)}"
        f"{_details_html(d)}</td></tr>"
        for d in found.differences
    )
    told = "".join(f"<li>{html.escape(text)}</li>" for text in found.outcome) or "<li>equal</li>"
    head = "".join(f"<p>{html.escape(line)}</p>" for line in _head(found) if line)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        f"<title>{html.escape(found.a.run)} / {html.escape(found.b.run)}</title>"
        "<style>body{font:15px sans-serif;max-width:72em;margin:2em auto}td{padding:.2em .6em;"
        "vertical-align:top;border-top:1px solid #ddd}.a{color:#a00}.b{color:#850}.n{color:#777}"
        "pre{margin:.3em 0;white-space:pre-wrap}</style>"
        f"{head}<h2>{html.escape(found.verdict.sentence)}</h2>"
        f"<p><code>{html.escape(found.verdict.next or '')}</code></p>"
        "<table><tr><th>layer<th>what<th>A<th>B<th>what it can do</tr>"
        f"{rows}</table><h3>outcome</h3><ul>{told}</ul>"
        f"<h3>trace</h3><p>{html.escape(found.trace.words)}</p></html>\n"
    )


def _head(found: Diff) -> Iterator[str]:
    if found.incomparable:
        yield f"METRICS CANNOT BE COMPARED: {found.incomparable}"
    for letter, side in (("A", found.a), ("B", found.b)):
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in side.metrics.items())
        yield f"{letter}  {side.run}  {side.started_at[:19]}  {metrics}"
    yield ""


def _difference(head: str, difference: Difference, *, colour: bool) -> Iterator[str]:
    start, end = (f"\033[{_COLOURS[difference.kind]}m", "\033[0m") if colour else ("", "")
    values = f": {_short(difference.a)} -> {_short(difference.b)}"
    yield _row(head, f"{start}{difference.name}{values}{end}")
    follows = f"; follows from {difference.follows}" if difference.follows else ""
    yield _row("", f"  {difference.kind}: {difference.reason}{follows}")
    yield from (_row("", f"    {text}") for text in difference.details[:_SHOWN])
    if (more := len(difference.details) - _SHOWN) > 0:
        yield _row("", f"    ... and {more} more lines (--json has them)")


def _details_html(difference: Difference) -> str:
    if not difference.details:
        return ""
    return f"<pre>{html.escape(chr(10).join(difference.details))}</pre>"


def _row(head: str, text: str) -> str:
    return f"{head:<{_MARGIN}}{text}"


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text if len(text) <= 60 else text[:57] + "..."
