"""The verbs that look at runs. Each imports what it needs when it runs."""

import json
import os
import sys
from functools import partial
from pathlib import Path

from saigen import exit_codes
from saigen.command_line import ROOT, Chosen, Verb, answer, tell
from saigen.printing import bare


def _runs(chosen: Chosen) -> int:
    from saigen.runs.folders import RUNS
    from saigen.runs.listing import listing
    from saigen.runs.summary import runs_table

    found = listing(ROOT / RUNS, chosen.filters, chosen.sort)
    return answer(chosen, found, runs_table(found.runs))


def _show(chosen: Chosen) -> None:
    from saigen.analysis.run import open_run
    from saigen.runs.summary import run_table

    record = open_run(chosen.run, ROOT, tell).record
    print(json.dumps(record, indent=2) if chosen.json else run_table(record))


def _diff(chosen: Chosen) -> int:
    from saigen.analysis.diff import diff
    from saigen.analysis.diff_text import diff_html, diff_text
    from saigen.analysis.run import open_run
    from saigen.outputs import refuse_output, write_output

    pair = open_run(chosen.a, ROOT, tell), open_run(chosen.b, ROOT, tell)
    if chosen.html:
        refuse_output(chosen.html, ROOT, (Path(chosen.a), Path(chosen.b)))
    if chosen.deep or chosen.confirm:
        from saigen.analysis.trust import agree
        from saigen.analysis.watched import of_template

        for run in pair:
            agree(of_template(run, "saigen diff --deep"), "saigen diff", trusted=chosen.trust)
    found = diff(*pair)
    if chosen.deep:
        from saigen.analysis.replay import deep

        found = found.model_copy(update={"deep": deep(*pair, found)})
    if chosen.confirm:
        from saigen.analysis.confirm import confirm

        found = found.model_copy(update={"trials": confirm(*pair, found, tell)})
    if chosen.html:
        write_output(chosen.html, diff_html(found).encode())
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if colour and not chosen.json:
        print(diff_text(found, colour=True), file=bare(sys.stdout))
        return 0 if found.same_outcome else 1
    return answer(chosen, found, diff_text(found), good=found.same_outcome)


def _compare(chosen: Chosen) -> int:
    from saigen.analysis.compare import compare
    from saigen.analysis.compare_text import weighed_text
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template

    a, b = (of_template(open_run(r, ROOT, tell), "saigen compare") for r in (chosen.a, chosen.b))
    found = compare(a, b)
    answer(chosen, found, weighed_text(found))
    codes = {"worse": exit_codes.FAILED, "inconclusive": exit_codes.INCONCLUSIVE}
    return codes.get(found.verdict, exit_codes.DONE)


def _rerun(chosen: Chosen) -> int:
    from saigen.analysis.diff_text import diff_text
    from saigen.analysis.rerun import rerun
    from saigen.analysis.run import open_run
    from saigen.analysis.trust import agree

    run = open_run(chosen.run, ROOT, tell)
    agreed = partial(agree, run, "saigen rerun", trusted=chosen.trust)
    found, name = rerun(run, ROOT, tell, agreed, install=not chosen.here)
    same = f"identical: {name} has the outcome of {run.name}, {found.a.outcome[:12]}"
    text = same if found.same_outcome else diff_text(found)
    return answer(chosen, found, text, good=found.same_outcome)


def _restore(chosen: Chosen) -> None:
    from saigen.analysis.rerun import restore
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template

    run = of_template(open_run(chosen.run, ROOT, tell), "saigen restore")
    restore(run, ROOT, chosen.to, print)
    print(f"{chosen.to}: the model of {run.name}")


def _verify(chosen: Chosen) -> int:
    from saigen.analysis.claims import publish, scorecard
    from saigen.analysis.watched import is_reference

    if of_run := is_reference(chosen.overrides):
        from saigen.analysis.rerun import verify_watched
        from saigen.analysis.run import open_run

        watched = open_run(chosen.overrides[0], ROOT, tell)
        found = verify_watched(watched, ROOT, tell, only=chosen.only, trusted=chosen.trust)
    else:
        from saigen.analysis.verify import verify

        found = verify(ROOT, chosen.overrides, tell, full=chosen.full, only=chosen.only)
    for run in publish(found, ROOT, whole=not (chosen.only or of_run), say=tell):
        tell(f"written into the record of {run}")
    answer(chosen, found, scorecard(found))
    return found.exit_code


def _doctor(chosen: Chosen) -> int:
    from saigen.analysis.doctor import diagnose, diagnosis_text
    from saigen.analysis.system_info import look

    found = diagnose(look(ROOT), ROOT)
    return answer(chosen, found, diagnosis_text(found), good=found.sound)


def _audit(chosen: Chosen) -> int:
    from saigen.runs.audit import audit, audit_text
    from saigen.runs.folders import RUNS

    if chosen.repair:
        from saigen.runs.ledger import repair

        tell(repair(ROOT / RUNS))
    found = audit(ROOT / RUNS)
    return answer(chosen, found, audit_text(found), good=found.verdict == "intact")


VERBS: tuple[tuple[Verb, str, str], ...] = (
    (_runs, "list the runs", "filters --sort --json"),
    (_show, "show one record", "run --json"),
    (_diff, "where two runs part, and why", "a b --deep --confirm --trust --html --json"),
    (_compare, "two groups of runs over their seeds: better, worse, equivalent?", "a b --json"),
    (_verify, "try to break the claims (or those of a watched RUN), and keep score",
     "overrides --full --only --trust --json"),
    (_rerun, "make a run again from its record, and compare", "run --here --trust --json"),
    (_restore, "put a run's model back, without training", "run --to"),
    (_audit, "check ledger, records and files, byte for byte", "--repair --json"),
    (_doctor, "this machine against the pins: what can be kept here", "--json"),
)  # fmt: skip
