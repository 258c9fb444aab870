"""The verbs. Each imports what it needs when it runs, so that the others answer at once.

Exit codes: 0 done (or: the same), 1 failed (or: differs), 2 refused, 3 inconclusive, 130 Ctrl-C,
143 SIGTERM or SIGHUP (in training at a checkpoint); `--json` prints one document.
"""

import json
import sys
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from saigen import exit_codes
from saigen.analysis import verbs
from saigen.command_line import ROOT, Chosen, Verb, answer, ended_by, parser, tell
from saigen.errors import Refusal
from saigen.interruption import InterruptedAtCheckpoint, answered, stop
from saigen.own_source import start_from_own_source
from saigen.printing import bare, visible_output
from saigen.starting import verbs as starting

if TYPE_CHECKING:
    from saigen.config.compose import Composition


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    if arguments is None:
        start_from_own_source(ROOT)
    with visible_output():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        chosen = parser(_VERBS).parse_args(arguments)
        verb: Verb = chosen.verb
        with answered(stop):
            code = verb(chosen) or exit_codes.DONE
            sys.stdout.flush()
    except BaseException as error:
        return ended_by(error)
    return code


def _composition(chosen: Chosen) -> "Composition":
    from saigen.config import dvc_params, handover
    from saigen.config.compose import compose

    _refuse_ignored(chosen)
    return handover.take(
        lambda: dvc_params.composed(ROOT) if chosen.stage else compose(tuple(chosen.overrides))
    )


def _refuse_ignored(chosen: Chosen) -> None:
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


def _compose(chosen: Chosen) -> None:
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
        answer(chosen, text, str(text))
    else:
        found = compose(tuple(chosen.overrides))
        print(json.dumps(found.values, indent=2) if chosen.json else found.yaml.rstrip("\n"))


def _data(chosen: Chosen) -> None:  # noqa: ARG001
    from saigen.config.compose import compose
    from saigen.data.preparation import check_snapshot
    from saigen.digest import digest_file

    data = compose(()).config.data
    if not all((ROOT / path).is_file() for path in (data.snapshot, data.provenance)):
        from saigen.analysis.remotes import pull

        pull(ROOT, "data.dvc", "the snapshot could not be brought")
    text = check_snapshot(data, ROOT, digest_file)
    print(f"{data.snapshot}: {text['rows']} rows, sha256 {text['sha256'][:12]}, as it was taken")


def _observed(verb: Verb) -> Verb:
    """The same verb, with an eye on what the project takes in, from before its first import."""

    @wraps(verb)
    def run(chosen: Chosen) -> int | None:
        from saigen.observing.observer import observing

        with observing(ROOT):
            return verb(chosen)

    return run


@_observed
def _prepare(chosen: Chosen) -> None:
    from saigen import pipeline
    from saigen.config import handover
    from saigen.environment import torch_flags

    composition = _composition(chosen)
    if chosen.sources:
        pipeline.list_sources(composition, ROOT)
        return
    if torch_flags.must_start_again(composition.config):  # as a training is
        handover.give(composition.values, composition.overrides)
        torch_flags.start_again(composition.config)
    pipeline.prepare(composition, ROOT, print)


@_observed
def _train(chosen: Chosen) -> int | None:
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

    from saigen import pipeline, publishing

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
        publishing.publish_model(folder, ROOT)
        return None
    return _finish(folder)


@_observed
def _evaluate(chosen: Chosen) -> int:
    from saigen import pipeline, publishing
    from saigen.analysis.run import open_run
    from saigen.analysis.watched import of_template
    from saigen.config.compose import read_composed
    from saigen.environment import torch_flags
    from saigen.runs import folders

    folder = (
        publishing.run_of_model(ROOT)
        if chosen.stage
        else folders.find(chosen.run, ROOT / folders.RUNS, tell)
    )
    of_template(open_run(str(folder), ROOT), "saigen evaluate")
    torch_flags.start_again_if_needed(read_composed(folder / "config.yaml").config)
    pipeline.refuse_edited(folder, ROOT)
    code = _finish(folder)
    if chosen.stage:
        publishing.publish_results(folder, ROOT)
    return code


def _finish(folder: Path) -> int:
    """Evaluate a run and say how it stands in the ledger; exit code 1 on a violation."""
    from saigen import pipeline
    from saigen.runs.summary import metrics_line

    record, history = pipeline.evaluate(folder, ROOT, print)
    print(f"{folder.name}: {metrics_line(record['outcome']['metrics'])}")
    if history and history.cut:
        tell(history.cut)
    if history is None:
        print("measured again: the same metrics and predictions as recorded")
        return 0
    if not history.violated:
        print(history)
        return 0
    tell(history)
    other = folder.parent / str(history.other)
    if not (other / "record.json").is_file():
        tell(f"{other} is not here any more, so what differs cannot be told")
        return 1
    from saigen.analysis.diff import diff
    from saigen.analysis.diff_text import diff_text
    from saigen.analysis.run import open_run

    tell(diff_text(diff(open_run(str(other), ROOT), open_run(str(folder), ROOT))))
    return 1


def _predict(chosen: Chosen) -> None:
    from saigen import pipeline
    from saigen.config.compose import typed
    from saigen.environment import torch_flags
    from saigen.outputs import refuse_output, write_output
    from saigen.runs.model_folder import open_model

    if chosen.out:
        refuse_output(chosen.out, ROOT, (chosen.input, chosen.model))
    model = open_model(chosen.model)
    torch_flags.start_again_if_needed(typed(model.config, (), str(chosen.model)).config)
    table = pipeline.predict(model, chosen.input, ROOT, tell)
    if chosen.out:
        write_output(chosen.out, table)
    elif sys.stdout.isatty():
        sys.stdout.write(table.decode())
    else:
        bare(sys.stdout).buffer.write(table)


_VERBS: tuple[tuple[Verb, str, str], ...] = (
    (_compose, "print the resolved config", "overrides --stage --explain --write --json"),
    (_data, "bring the snapshot if it is not here, and check it", ""),
    (_prepare, "snapshot -> prepared/", "overrides --stage --sources"),
    (_train, "a run: weights, trace, record, metrics; prepares what is missing",
     "overrides --stage --multirun,-m"),
    (_evaluate, "measure a run on the frozen test split", "run --stage"),
    (_predict, "a model folder and an input file -> predictions as CSV", "model input --out"),
    *verbs.VERBS,
    *starting.VERBS,
)  # fmt: skip
