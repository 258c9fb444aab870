"""The verbs. Each imports what it needs when it runs, so that the others answer at once.

Exit codes: 0 done (or: the same), 1 failed (or: differs), 2 refused; `--json` prints one document.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saigen.refusal import Failure, Refusal
from saigen.training.interruption import InterruptedAtCheckpoint
from saigen.training.processes import TERMINATED

if TYPE_CHECKING:
    from saigen.recipe.composer.compose import Composition

ROOT = Path()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns its exit code."""
    chosen = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = chosen.verb
    try:
        return verb(chosen)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 1 if isinstance(refusal, Failure) else 2
    except ImportError:
        return _refused_for_drift()
    except OSError as error:
        print(_unwritable(error), file=sys.stderr)
        return 1
    except InterruptedAtCheckpoint as stopped:
        print(stopped, file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def _refused_for_drift() -> int:
    """Inside `except ImportError`: 2 if packages are not as locked, which is said; else raise."""
    from saigen.recipe.lock import hold_to_lock

    try:
        hold_to_lock(ROOT, "refuse")
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    raise  # noqa: PLE0704  of the error that is being handled


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="saigen",
        description="Train so that every number can be made again.",
        epilog="KEY=VALUE are Hydra overrides: model=cnn optimizer.lr=0.01. RUN is an id, the "
        "beginning of one, last, last~1, or a path.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(
        name: str, does: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(verb=does)
        return verb

    def composing(
        name: str, does: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        verb = add(name, does, text)
        verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides")
        verb.add_argument("--stage", action="store_true", help="as a DVC stage: reads params.yaml")
        return verb

    verb = composing("compose", _compose, "print the resolved config")
    verb.add_argument("--explain", metavar="KEY", help="value, type, meaning, and who set it")
    verb.add_argument("--write", action="store_true", help="into params.yaml, whatever it held")
    verb.add_argument("--json", action="store_true", help="one JSON document")
    add("data", _data, "bring the snapshot if it is not here, and check it")
    composing("prepare", _prepare, "snapshot -> prepared/")
    verb = composing("train", _train, "prepared/ -> a run: weights, trace, record, metrics")
    verb.add_argument("--multirun", "-m", action="store_true", help="a run for each combination")
    verb = add("evaluate", _evaluate, "measure a run on the frozen evaluation split")
    verb.add_argument("run", nargs="?", default="last", metavar="RUN")
    verb.add_argument("--stage", action="store_true", help="as a DVC stage: the run of model/")
    verb = add("predict", _predict, "a model folder and an input file -> predictions as CSV")
    verb.add_argument("model", type=Path, metavar="MODEL", help="model/ or runs/ID/model")
    verb.add_argument("input", type=Path, metavar="FILE", help="in the snapshot's format")
    verb.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")
    verb = add("runs", _runs, "list the runs")
    verb.add_argument("filters", nargs="*", metavar="KEY=VALUE", help="only runs that fit")
    verb.add_argument("--sort", metavar="KEY", help="a column, metric or config key; -KEY: down")
    verb.add_argument("--json", action="store_true", help="one JSON document")
    _add_judging(add, composing)
    verb = add("show", _show, "show one record")
    verb.add_argument("run", nargs="?", default="last", metavar="RUN")
    verb.add_argument("--json", action="store_true", help="the record itself")
    return parser


def _add_judging(
    add: Callable[..., argparse.ArgumentParser], composing: Callable[..., argparse.ArgumentParser]
) -> None:
    verb = add("diff", _diff, "where two runs part, and why")
    verb.add_argument("a", metavar="A", help="a RUN")
    verb.add_argument("b", metavar="B", help="a RUN")
    verb.add_argument("--json", action="store_true", help="one JSON document")
    verb.add_argument("--deep", action="store_true", help="replay the step where they part")
    verb.add_argument("--confirm", action="store_true", help="train B with A's value, to prove it")
    verb.add_argument("--html", type=Path, metavar="FILE", help="also as a page")
    verb = add("rerun", _rerun, "make a run again from its record, and compare")
    verb.add_argument("run", nargs="?", default="last", metavar="RUN")
    verb.add_argument("--here", action="store_true", help="in this environment, as it is")
    verb.add_argument("--json", action="store_true", help="the diff, as one JSON document")
    verb = add("restore", _restore, "put a run's model back, without training")
    verb.add_argument("run", nargs="?", default="last", metavar="RUN")
    verb.add_argument("--to", type=Path, default=Path("model"), metavar="FOLDER")
    verb = composing("verify", _verify, "try to break the claims, and keep score")
    verb.add_argument("--full", action="store_true", help="the whole training, not a short one")
    verb.add_argument("--only", action="append", default=[], metavar="CLAIM", help="only this one")
    verb.add_argument("--json", action="store_true", help="one JSON document")
    verb = add("doctor", _doctor, "this machine against the pins: what can be kept here")
    verb.add_argument("--json", action="store_true", help="one JSON document")
    verb = add("audit", _audit, "check ledger, records and files, byte for byte")
    verb.add_argument("--json", action="store_true", help="one JSON document")


def _composition(chosen: argparse.Namespace) -> "Composition":
    from saigen.recipe.composer import stage
    from saigen.recipe.composer.compose import compose

    _refuse_ignored(chosen)
    return stage.composed(ROOT) if chosen.stage else compose(tuple(chosen.overrides))


def _refuse_ignored(chosen: argparse.Namespace) -> None:
    """A stage runs on params.yaml, and so does what writes it: overrides would be ignored."""
    if chosen.overrides and (chosen.stage or getattr(chosen, "write", False)):
        raise Refusal(
            "overrides go into params.yaml by experiments only",
            where=f"command line: {' '.join(chosen.overrides)}",
            expected="no overrides with --stage or --write",
            got=" ".join(chosen.overrides),
            fix="dvc exp run " + " ".join(f"-S {text}" for text in chosen.overrides),
        )


def _compose(chosen: argparse.Namespace) -> int:
    from saigen.recipe.composer import stage
    from saigen.recipe.composer.compose import compose

    _refuse_ignored(chosen)
    if chosen.stage:
        stage.compose_stage(ROOT, print)
    elif chosen.write:
        stage.write(ROOT, ())
    elif chosen.explain:
        from saigen.recipe.composer.explain import explain, explanation

        told = explain(chosen.explain, tuple(chosen.overrides))
        print(json.dumps(told, indent=2) if chosen.json else explanation(told))
    else:
        composition = compose(tuple(chosen.overrides))
        values, text = composition.values, composition.yaml
        print(json.dumps(values, indent=2) if chosen.json else text, end="\n" * chosen.json)
    return 0


def _data(chosen: argparse.Namespace) -> int:  # noqa: ARG001
    from saigen.recipe.composer.compose import compose
    from saigen.training.preparation import check_snapshot

    data = compose(()).config.data
    if not all((ROOT / path).is_file() for path in (data.snapshot, data.provenance)):
        _pull()
    told = check_snapshot(data, ROOT)
    print(f"{data.snapshot}: {told['rows']} rows, sha256 {told['sha256'][:12]}, as it was taken")
    return 0


def _pull() -> None:
    import subprocess

    command = ("dvc", "pull", "--quiet", "data.dvc")
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise Refusal(
            "the snapshot could not be brought",
            where="data.dvc",
            expected="a DVC remote that holds it",
            got=f"`{' '.join(command)}` failed, see above",
            fix="`dvc remote list` names the remote; `dvc checkout --force data.dvc` if the files "
            "are in the cache",
        )


def _prepare(chosen: argparse.Namespace) -> int:
    from saigen import stages

    manifest = stages.prepare(_composition(chosen), ROOT)
    print("prepared " + ", ".join(f"{rows} {split}" for split, rows in manifest["rows"].items()))
    return 0


def _train(chosen: argparse.Namespace) -> int:
    from saigen.recipe.composer import handover
    from saigen.training import processes, settings

    if chosen.multirun:
        from saigen.recipe.composer.sweep import sweep

        sweep(chosen.overrides, ROOT)
        return 0
    composition = handover.take(lambda: _composition(chosen))
    hardware, trainer = composition.config.hardware, composition.config.trainer
    if settings.must_start_again(composition.config):
        handover.give(composition)
        settings.start_again(composition.config)
    if hardware.processes > 1 and not processes.is_rank():
        command = [sys.executable, *sys.orig_argv[1:]]
        return processes.launch(hardware.processes, command, handover.give(composition))

    from saigen import stages

    group = processes.join(hardware.device, trainer.microbatches, hardware.process_timeout_seconds)
    try:
        folder = stages.train(composition, ROOT, group, print)
    except InterruptedAtCheckpoint:
        group.leave()  # all stop here together; a connection left open may abort a process's end
        raise
    group.leave()
    if folder is None:  # not rank 0
        return 0
    if chosen.stage:
        stages.publish_model(folder, ROOT)
        return 0
    return _finish(folder)


def _evaluate(chosen: argparse.Namespace) -> int:
    from saigen import stages
    from saigen.recipe.composer.compose import read_composed
    from saigen.records import runs
    from saigen.training import settings

    folder = stages.run_of_model(ROOT) if chosen.stage else runs.find(chosen.run, ROOT / runs.RUNS)
    settings.start_again_if_needed(read_composed(folder / "config.yaml").config)
    code = _finish(folder)
    if chosen.stage:
        stages.publish_results(folder, ROOT)
    return code


def _finish(folder: Path) -> int:
    """Evaluate a run and say how it stands in the ledger; exit code 1 on a violation."""
    from saigen import stages
    from saigen.records.summary import metrics_line

    record, standing = stages.evaluate(folder, ROOT)
    print(f"{folder.name}: {metrics_line(record)}")
    if standing is None:
        print("measured again: the same metrics and predictions as recorded")
        return 0
    print(standing, file=sys.stderr if standing.violated else sys.stdout)
    if not standing.violated:
        return 0
    other = folder.parent / standing.violated
    if not (other / "record.json").is_file():
        print(f"{other} is not here any more, so what differs cannot be told", file=sys.stderr)
        return 1
    from saigen.judgement.comparing.diff import diff
    from saigen.judgement.comparing.rendering import diff_text
    from saigen.judgement.run import open_run

    found = diff(*(open_run(str(run), ROOT) for run in (other, folder)))
    print(diff_text(found, colour=False), file=sys.stderr)
    return 1


def _predict(chosen: argparse.Namespace) -> int:
    from saigen import stages
    from saigen.files import write_whole
    from saigen.recipe.composer.compose import typed
    from saigen.records.model_folder import open_model
    from saigen.training import settings

    model = open_model(chosen.model)
    settings.start_again_if_needed(typed(model.config, (), str(chosen.model)).config)
    table = stages.predict(chosen.model, chosen.input, ROOT)
    if chosen.out:
        write_whole(chosen.out, table)
    else:
        sys.stdout.write(table.decode())
    return 0


def _runs(chosen: argparse.Namespace) -> int:
    from saigen.records import runs
    from saigen.records.listing import listing
    from saigen.records.summary import runs_table

    found = listing(ROOT / runs.RUNS, chosen.filters, chosen.sort)
    print(found.json_text() if chosen.json else runs_table(found.runs))
    return 0


def _diff(chosen: argparse.Namespace) -> int:
    import os

    from saigen.judgement.comparing.diff import diff
    from saigen.judgement.comparing.rendering import diff_html, diff_text
    from saigen.judgement.run import open_run

    pair = open_run(chosen.a, ROOT), open_run(chosen.b, ROOT)
    found = diff(*pair)
    if chosen.deep:
        from saigen.judgement.comparing.deep import deep

        found = found.model_copy(update={"deep": deep(*pair, found, ROOT)})
    if chosen.confirm:
        from saigen.judgement.comparing.confirm import confirm

        trials = confirm(*pair, found, ROOT, lambda text: print(text, file=sys.stderr))
        found = found.model_copy(update={"trials": trials})
    if chosen.html:
        from saigen.files import write_whole

        write_whole(chosen.html, diff_html(found).encode())
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(found.json_text() if chosen.json else diff_text(found, colour=colour))
    return found.exit_code


def _rerun(chosen: argparse.Namespace) -> int:
    from saigen.judgement.comparing.rendering import diff_text
    from saigen.judgement.remaking.rerun import rerun
    from saigen.judgement.run import open_run

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    run = open_run(chosen.run, ROOT)
    found, name = rerun(run, ROOT, say, install=not chosen.here)
    if chosen.json:
        print(found.json_text())
    elif found.same_outcome:
        print(f"identical: {name} has the outcome of {run.name}, {found.a.outcome[:12]}")
    else:
        print(diff_text(found, colour=False))
    return found.exit_code


def _restore(chosen: argparse.Namespace) -> int:
    from saigen.judgement.remaking.rerun import restore
    from saigen.judgement.run import open_run

    run = open_run(chosen.run, ROOT)
    restore(run, ROOT, chosen.to, print)
    print(f"{chosen.to}: the model of {run.name}")
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    from saigen.judgement.proving.claims import publish, scorecard
    from saigen.judgement.proving.verify import verify

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    found = verify(ROOT, chosen.overrides, say, full=chosen.full, only=chosen.only)
    for run in publish(found, ROOT, whole=not chosen.only):
        say(f"written into the record of {run}")
    print(found.json_text() if chosen.json else scorecard(found))
    return 0 if found.held else 1


def _doctor(chosen: argparse.Namespace) -> int:
    from saigen.judgement.doctor import diagnose, diagnosis_text
    from saigen.judgement.here import look

    found = diagnose(look(ROOT), ROOT)
    print(found.json_text() if chosen.json else diagnosis_text(found))
    return 0 if found.sound else 1


def _audit(chosen: argparse.Namespace) -> int:
    from saigen.records import runs
    from saigen.records.audit import audit, audit_text

    found = audit(ROOT / runs.RUNS)
    print(found.json_text() if chosen.json else audit_text(found))
    return 0 if found.verdict == "intact" else 1


def _show(chosen: argparse.Namespace) -> int:
    from saigen.judgement.run import open_run
    from saigen.records.summary import run_table

    record = open_run(chosen.run, ROOT).record
    print(json.dumps(record, indent=2) if chosen.json else run_table(record))
    return 0
