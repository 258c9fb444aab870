"""The verbs. Each imports what it needs when it runs, so that the others answer at once.

Exit codes: 0 done (or: the same), 1 failed (or: differs), 2 refused, 3 inconclusive, 130 Ctrl-C,
143 SIGTERM or SIGHUP (in training at a checkpoint); `--json` prints one document.
"""

import argparse
import json
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from saigen import exit_codes
from saigen.errors import Failure, Refusal
from saigen.interruption import (
    InterruptedAtCheckpoint,
    answered,
    interruption_behind,
    stop,
)
from saigen.printing import bare, visible_output

if TYPE_CHECKING:
    from saigen.config.compose import Composition

ROOT = Path()

_Chosen = argparse.Namespace
_Verb = Callable[[_Chosen], int | None]  # None: done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    with visible_output():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        chosen = _parser().parse_args(arguments)
        verb: _Verb = chosen.verb
        with answered(stop):
            code = verb(chosen) or exit_codes.DONE
            sys.stdout.flush()
    except BaseException as error:
        return _ended_by(error)
    return code


def _ended_by(error: BaseException) -> int:
    """Say why a verb ended, and give its exit code; raises again what is nobody's to expect."""
    if isinstance(error, Refusal):
        if "SAIGEN_TRACEBACK" in os.environ:
            traceback.print_exception(error)
        _tell(error)
        return exit_codes.FAILED if isinstance(error, Failure) else exit_codes.REFUSED
    first = interruption_behind(error)
    if isinstance(first, KeyboardInterrupt):
        _tell("interrupted; the same command continues")
        return exit_codes.INTERRUPTED
    if first:
        _tell(first)
        return exit_codes.STOPPED
    if isinstance(error, OSError):
        if _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in Python's buffer
        else:
            _tell(_unwritable(error))
        return exit_codes.FAILED
    if isinstance(error, ImportError):
        from saigen.environment.lock import unimportable

        if found := unimportable(ROOT, error):
            _tell(found)
            return exit_codes.REFUSED
    raise error


class _Parser(argparse.ArgumentParser):
    """What it cannot take is said as everything else is: it may hold a password."""

    def error(self, message: str) -> NoReturn:
        raise Refusal(
            "this is no command line of saigen",
            where=f"command line: {self.prog}",
            expected=self.format_usage().removeprefix("usage: ").strip(),
            got=message,
            fix=f"`{self.prog} --help` says what it may be",
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="saigen",
        description="Train so that every number can be made again.",
        epilog="KEY=VALUE are Hydra overrides: model=cnn optimizer.lr=0.01. RUN is an id, the "
        "beginning of one, last, last~1, or a path.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for does, says, arguments in _VERBS:
        verb = verbs.add_parser(does.__name__.removeprefix("_"), help=says, description=says)
        verb.set_defaults(verb=does)
        for name in arguments.split():
            text = _ARGUMENTS[name]
            switch = {"action": "store_true", "help": text}
            verb.add_argument(*name.split(","), **(switch if isinstance(text, str) else text))
    return parser


def _nobody_reads() -> bool:
    """Whether what reads the answer has gone, as `head` has in `saigen runs | head`."""
    output = select.poll()
    output.register(1, 0)  # of errors it tells all the same
    return bool(output.poll(0))


def _unwritable(error: OSError) -> Failure:
    """A full disk, a read-only or vanished folder: the system's word, and what to do."""
    return Failure(
        "a file could not be read or written",
        where=str(error.filename or "an open file"),
        expected="a folder that is there, with room, that this user may write to",
        got=error.strerror or str(error),
        fix="make room or mend the rights, then start the same command again: what was whole is "
        "still there, and a run continues from its newest checkpoint",
    )


def _tell(text: object) -> None:
    """Say something to the person at the terminal, beside what the verb answers."""
    print(text, file=sys.stderr)


def _answer(chosen: _Chosen, found: Any, text: str, *, good: bool = True) -> int:
    """Print a document or its text; the exit code."""
    print(found.json_text() if chosen.json else text)
    return 0 if good else 1


def _composition(chosen: _Chosen) -> "Composition":
    from saigen.config import dvc_params, handover
    from saigen.config.compose import compose

    _refuse_ignored(chosen)
    return handover.take(
        lambda: dvc_params.composed(ROOT) if chosen.stage else compose(tuple(chosen.overrides))
    )


def _refuse_ignored(chosen: _Chosen) -> None:
    """A stage runs on params.yaml, and so does what writes it: overrides would be ignored."""
    if chosen.overrides and (chosen.stage or getattr(chosen, "write", False)):
        text = " ".join(chosen.overrides)
        raise Refusal(
            "overrides go into params.yaml by experiments only",
            where=f"command line: {text}",
            expected="no overrides with --stage or --write",
            got=text,
            fix="dvc exp run " + " ".join(f"-S {text}" for text in chosen.overrides),
        )


def _compose(chosen: _Chosen) -> None:
    from saigen.config import dvc_params
    from saigen.config.compose import compose

    _refuse_ignored(chosen)
    if chosen.stage:
        dvc_params.compose_stage(ROOT, print)
    elif chosen.write:
        dvc_params.write(ROOT, ())
    elif chosen.explain:
        from saigen.config.explain import explain

        text = explain(chosen.explain, tuple(chosen.overrides))
        _answer(chosen, text, str(text))
    else:
        found = compose(tuple(chosen.overrides))
        print(json.dumps(found.values, indent=2) if chosen.json else found.yaml.rstrip("\n"))


def _data(chosen: _Chosen) -> None:  # noqa: ARG001
    from saigen.config.compose import compose
    from saigen.data.preparation import check_snapshot
    from saigen.digest import digest_file

    data = compose(()).config.data
    if not all((ROOT / path).is_file() for path in (data.snapshot, data.provenance)):
        from saigen.analysis.remotes import pull

        pull(ROOT, "data.dvc", "the snapshot could not be brought")
    text = check_snapshot(data, ROOT, digest_file)
    print(f"{data.snapshot}: {text['rows']} rows, sha256 {text['sha256'][:12]}, as it was taken")


def _prepare(chosen: _Chosen) -> None:
    from saigen import pipeline

    stage = pipeline.list_sources if chosen.sources else partial(pipeline.prepare, say=print)
    stage(_composition(chosen), ROOT)


def _train(chosen: _Chosen) -> int | None:
    from saigen.config import handover
    from saigen.environment import torch_flags
    from saigen.training import processes, ranks

    if chosen.multirun:
        from saigen.sweep import sweep

        sweep(chosen.overrides, ROOT)
        return None
    composition = ranks.as_launched(_composition(chosen))
    hardware = composition.config.hardware
    if torch_flags.must_start_again(composition.config):
        handover.give(composition.values, composition.overrides)
        torch_flags.start_again(composition.config)
    if hardware.processes > 1 and not ranks.is_rank():
        command = [sys.executable, *sys.orig_argv[1:]]
        given = handover.give(composition.values, composition.overrides)
        return processes.launch(hardware.processes, command, given)

    from saigen import pipeline

    group = processes.join(hardware.device, hardware.process_timeout_seconds)
    try:
        folder = pipeline.train(composition, ROOT, group, print)
    except InterruptedAtCheckpoint:
        group.leave()  # all stop here together; a connection left open may abort a process's end
        raise
    group.leave()
    if folder is None:  # not rank 0
        return None
    if chosen.stage:
        pipeline.publish_model(folder, ROOT)
        return None
    return _finish(folder)


def _evaluate(chosen: _Chosen) -> int:
    from saigen import pipeline
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template
    from saigen.config.compose import read_composed
    from saigen.environment import torch_flags
    from saigen.runs import folders

    folder = (
        pipeline.run_of_model(ROOT)
        if chosen.stage
        else folders.find(chosen.run, ROOT / folders.RUNS, _tell)
    )
    of_template(open_run(str(folder), ROOT), "saigen evaluate")
    torch_flags.start_again_if_needed(read_composed(folder / "config.yaml").config)
    pipeline.refuse_edited(folder, ROOT)
    code = _finish(folder)
    if chosen.stage:
        pipeline.publish_results(folder, ROOT)
    return code


def _finish(folder: Path) -> int:
    """Evaluate a run and say how it stands in the ledger; exit code 1 on a violation."""
    from saigen import pipeline
    from saigen.runs.summary import metrics_line

    record, history = pipeline.evaluate(folder, ROOT, print)
    print(f"{folder.name}: {metrics_line(record['outcome']['metrics'])}")
    if history and history.cut:
        _tell(history.cut)
    if history is None:
        print("measured again: the same metrics and predictions as recorded")
        return 0
    if not history.violated:
        print(history)
        return 0
    _tell(history)
    other = folder.parent / str(history.other)
    if not (other / "record.json").is_file():
        _tell(f"{other} is not here any more, so what differs cannot be told")
        return 1
    from saigen.analysis.diff import diff
    from saigen.analysis.diff_text import diff_text
    from saigen.analysis.run import open_run

    _tell(diff_text(diff(open_run(str(other), ROOT), open_run(str(folder), ROOT))))
    return 1


def _predict(chosen: _Chosen) -> None:
    from saigen import pipeline
    from saigen.config.compose import typed
    from saigen.environment import torch_flags
    from saigen.outputs import refuse_output, write_output
    from saigen.runs.model_folder import open_model

    if chosen.out:
        refuse_output(chosen.out, ROOT, (chosen.input, chosen.model))
    model = open_model(chosen.model)
    torch_flags.start_again_if_needed(typed(model.config, (), str(chosen.model)).config)
    table = pipeline.predict(model, chosen.input, ROOT, _tell)
    if chosen.out:
        write_output(chosen.out, table)
    elif sys.stdout.isatty():
        sys.stdout.write(table.decode())
    else:
        bare(sys.stdout).buffer.write(table)


def _runs(chosen: _Chosen) -> int:
    from saigen.runs.folders import RUNS
    from saigen.runs.listing import listing
    from saigen.runs.summary import runs_table

    found = listing(ROOT / RUNS, chosen.filters, chosen.sort)
    return _answer(chosen, found, runs_table(found.runs))


def _show(chosen: _Chosen) -> None:
    from saigen.analysis.run import open_run
    from saigen.runs.summary import run_table

    record = open_run(chosen.run, ROOT, _tell).record
    print(json.dumps(record, indent=2) if chosen.json else run_table(record))


def _diff(chosen: _Chosen) -> int:
    from saigen.analysis.diff import diff
    from saigen.analysis.diff_text import diff_html, diff_text
    from saigen.analysis.run import open_run
    from saigen.outputs import refuse_output, write_output

    pair = open_run(chosen.a, ROOT, _tell), open_run(chosen.b, ROOT, _tell)
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

        found = found.model_copy(update={"trials": confirm(*pair, found, _tell)})
    if chosen.html:
        write_output(chosen.html, diff_html(found).encode())
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if colour and not chosen.json:
        print(diff_text(found, colour=True), file=bare(sys.stdout))
        return 0 if found.same_outcome else 1
    return _answer(chosen, found, diff_text(found), good=found.same_outcome)


def _compare(chosen: _Chosen) -> int:
    from saigen.analysis.compare import compare
    from saigen.analysis.compare_text import weighed_text
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template

    a, b = (of_template(open_run(r, ROOT, _tell), "saigen compare") for r in (chosen.a, chosen.b))
    found = compare(a, b)
    _answer(chosen, found, weighed_text(found))
    codes = {"worse": exit_codes.FAILED, "inconclusive": exit_codes.INCONCLUSIVE}
    return codes.get(found.verdict, exit_codes.DONE)


def _rerun(chosen: _Chosen) -> int:
    from saigen.analysis.diff_text import diff_text
    from saigen.analysis.rerun import rerun
    from saigen.analysis.run import open_run
    from saigen.analysis.trust import agree

    run = open_run(chosen.run, ROOT, _tell)
    agreed = partial(agree, run, "saigen rerun", trusted=chosen.trust)
    found, name = rerun(run, ROOT, _tell, agreed, install=not chosen.here)
    same = f"identical: {name} has the outcome of {run.name}, {found.a.outcome[:12]}"
    text = same if found.same_outcome else diff_text(found)
    return _answer(chosen, found, text, good=found.same_outcome)


def _restore(chosen: _Chosen) -> None:
    from saigen.analysis.rerun import restore
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template

    run = of_template(open_run(chosen.run, ROOT, _tell), "saigen restore")
    restore(run, ROOT, chosen.to, print)
    print(f"{chosen.to}: the model of {run.name}")


def _verify(chosen: _Chosen) -> int:
    from saigen.analysis.claims import publish, scorecard
    from saigen.analysis.watched import is_reference

    if of_run := is_reference(chosen.overrides):
        from saigen.analysis.rerun import verify_watched
        from saigen.analysis.run import open_run

        watched = open_run(chosen.overrides[0], ROOT, _tell)
        found = verify_watched(watched, ROOT, _tell, only=chosen.only, trusted=chosen.trust)
    else:
        from saigen.analysis.verify import verify

        found = verify(ROOT, chosen.overrides, _tell, full=chosen.full, only=chosen.only)
    for run in publish(found, ROOT, whole=not (chosen.only or of_run), say=_tell):
        _tell(f"written into the record of {run}")
    _answer(chosen, found, scorecard(found))
    return found.exit_code


def _doctor(chosen: _Chosen) -> int:
    from saigen.analysis.doctor import diagnose, diagnosis_text
    from saigen.analysis.system_info import look

    found = diagnose(look(ROOT), ROOT)
    return _answer(chosen, found, diagnosis_text(found), good=found.sound)


def _audit(chosen: _Chosen) -> int:
    from saigen.runs.audit import audit, audit_text
    from saigen.runs.folders import RUNS

    if chosen.repair:
        from saigen.runs.ledger import repair

        _tell(repair(ROOT / RUNS))
    found = audit(ROOT / RUNS)
    return _answer(chosen, found, audit_text(found), good=found.verdict == "intact")


# What a verb may be told; a text alone is the help of a switch.
_ARGUMENTS: dict[str, str | dict[str, Any]] = {
    "overrides": {"nargs": "*", "metavar": "KEY=VALUE", "help": "Hydra overrides"},
    "filters": {"nargs": "*", "metavar": "KEY=VALUE", "help": "only runs that fit"},
    "run": {"nargs": "?", "default": "last", "metavar": "RUN"},
    "a": {"metavar": "A", "help": "a RUN"},
    "b": {"metavar": "B", "help": "a RUN"},
    "model": {"type": Path, "metavar": "MODEL", "help": "model/ or runs/ID/model"},
    "input": {"type": Path, "metavar": "FILE", "help": "in the snapshot's format"},
    "--out": {"type": Path, "metavar": "FILE", "help": "instead of standard output"},
    "--html": {"type": Path, "metavar": "FILE", "help": "also as a page"},
    "--to": {"type": Path, "metavar": "FOLDER", "default": Path("model")},
    "--explain": {"metavar": "KEY", "help": "value, type, meaning, and who set it"},
    "--sort": {"metavar": "KEY", "help": "a column, metric or config key; -KEY: down"},
    "--only": {"metavar": "CLAIM", "action": "append", "default": [], "help": "only this one"},
    "--json": "one JSON document",
    "--stage": "as a stage of dvc.yaml: of params.yaml, or of the run of model/",
    "--sources": "only write which source the preparation and a run import",
    "--write": "into params.yaml, whatever it held",
    "--multirun,-m": "a run for each combination",
    "--deep": "replay the step where they part",
    "--confirm": "train B with A's value, to prove it",
    "--here": "in this environment, as it is",
    "--repair": "first put an altered ledger aside, and enter again what is whole",
    "--trust": "run the code of a record without asking whose it is",
    "--full": "the whole training, not a short one",
}
_VERBS: tuple[tuple[_Verb, str, str], ...] = (
    (_compose, "print the resolved config", "overrides --stage --explain --write --json"),
    (_data, "bring the snapshot if it is not here, and check it", ""),
    (_prepare, "snapshot -> prepared/", "overrides --stage --sources"),
    (_train, "a run: weights, trace, record, metrics; prepares what is missing",
     "overrides --stage --multirun,-m"),
    (_evaluate, "measure a run on the frozen test split", "run --stage"),
    (_predict, "a model folder and an input file -> predictions as CSV", "model input --out"),
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
