"""What was agreed before the runs were made: metric, margin, seeds."""

import math
from collections.abc import Sequence

from pydantic import ValidationError

from saigen.analysis.group import Group
from saigen.config.schema import Comparison
from saigen.documents import reason
from saigen.errors import Refusal

_KEY = "metadata.config.comparison"


def terms_of(groups: Sequence[Group]) -> Comparison:
    """The one set of terms that all runs of these groups were made under.

    Raises Refusal where there is none, where its metric was not measured, or where a group has
    fewer seeds than it asks for.
    """
    runs = [run for group in groups for same in group.runs.values() for run in same]
    held = {run.name: run.record["metadata"].get("config", {}).get("comparison") for run in runs}
    wanted = held[runs[-1].name]
    for name, terms in held.items():
        if terms is None or terms != wanted:
            raise Refusal(
                "these runs were not made under the same terms, so nothing was agreed beforehand",
                where=f"{_KEY} in the record of {name}",
                expected=f"{wanted or 'metric, margin and seeds'}, as in {runs[-1].name}",
                got=str(terms or "nothing: the run is older than the key"),
                fix="choose one in conf/comparison/, and make the runs anew under it",
            )
    try:
        terms = Comparison.model_validate(wanted)
    except ValidationError as error:
        raise Refusal(
            "the terms that these runs were made under cannot be read",
            where=f"{_KEY} in the record of {runs[-1].name}",
            expected="what conf/comparison/ holds",
            got=reason(error),
            fix="choose one in conf/comparison/, and make the runs anew under it",
        ) from error
    for run in runs:
        if terms.metric not in run.outcome["metrics"]:
            raise Refusal(
                f"the metric {terms.metric!r} was not measured",
                where=f"{_KEY}.metric in the record of {run.name}",
                expected=f"one of {', '.join(run.outcome['metrics'])}",
                got=terms.metric,
                fix="name one of those in conf/comparison/, and make the runs anew",
            )
        if not math.isfinite(float(run.outcome["metrics"][terms.metric])):
            raise Refusal(
                f"the metric {terms.metric!r} is not finite",
                where=f"outcome.metrics of {run.name}",
                expected="a finite number in each run",
                got=str(run.outcome["metrics"][terms.metric]),
                fix="name another metric in conf/comparison/, or mend this one; make the runs anew",
            )
    for letter, group in zip("AB", groups, strict=True):
        if len(group.runs) < terms.seeds:
            raise _too_few(letter, group, terms.seeds)
    return terms


def _too_few(letter: str, group: Group, wanted: int) -> Refusal:
    used = {seed for seeds in group.runs for _, seed in seeds}
    free = (str(n) for n in range(max(used, default=0) + wanted) if n not in used)
    more = ",".join(next(free) for _ in range(wanted - len(group.runs)))
    asked = group.first.record["metadata"]["overrides"]
    rest = "".join(f" {text}" for text in asked if not text.startswith("randomness.seed="))
    return Refusal(
        f"group {letter} is too small to tell luck from a difference",
        where=f"the runs like {group.first.name} but for their seeds",
        expected=f"{wanted} seeds, as {_KEY}.seeds of the records says",
        got=f"{len(group.runs)}" + "".join(f"; left out: {text}" for text in group.left_out),
        fix=f"saigen train --multirun{rest} randomness.seed={more}",
    )
