"""How a verb is asked for and how it ends: the parser, and the exit code with what is said."""

import argparse
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from saigen import exit_codes
from saigen.errors import Failure, Refusal
from saigen.interruption import interruption_behind

ROOT = Path()
Chosen = argparse.Namespace
Verb = Callable[[Chosen], int | None]  # None: done

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
    "table": {"type": Path, "metavar": "FILE", "help": "CSV, or a JSON list of flat objects"},
    "--target": {"metavar": "COLUMN", "help": "what is to be predicted"},
    "--task": {"metavar": "TASK", "help": "classification or regression; else by the target"},
    "--name": {"metavar": "NAME", "help": "what the project, or the snapshot, is called"},
    "--description": {"metavar": "TEXT", "help": "what it is, in one line"},
    "--author": {"metavar": "NAME <MAIL>", "help": "who holds the rights"},
    "--license": {
        "metavar": "LICENCE",
        "help": "MIT, BSD-3-Clause, Apache-2.0, LicenseRef-Proprietary",
    },
    "--reproducibility": {"metavar": "LEVEL", "help": "exact, portable, statistical"},
    "--hardware": {"metavar": "DEVICE", "help": "cpu, cuda"},
    "--remote": {"metavar": "URL", "help": "DVC's remote for data and models"},
    "--source": {"metavar": "URL", "help": "where it comes from: a template's address, or words"},
    "--commit": {"metavar": "COMMIT", "help": "of the template; else what is checked out"},
    "--conditions": {"metavar": "TEXT", "help": "which rows are in it, and which are not"},
    "--fresh-history": "put the template's history aside and begin another",
    "--full": "the whole training, not a short one",
}


def ended_by(error: BaseException) -> int:
    """Say why a verb ended, and give its exit code; raises again what is nobody's to expect."""
    if isinstance(error, Refusal):
        if "SAIGEN_TRACEBACK" in os.environ:
            traceback.print_exception(error)
        tell(error)
        return exit_codes.FAILED if isinstance(error, Failure) else exit_codes.REFUSED
    first = interruption_behind(error)
    if isinstance(first, KeyboardInterrupt):
        tell("interrupted; the same command continues")
        return exit_codes.INTERRUPTED
    if first:
        tell(first)
        return exit_codes.STOPPED
    if isinstance(error, OSError):
        if _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in Python's buffer
        else:
            tell(_unwritable(error))
        return exit_codes.FAILED
    if isinstance(error, ImportError):
        from saigen.environment.lock import unimportable

        if found := unimportable(ROOT, error):
            tell(found)
            return exit_codes.REFUSED
    raise error


class _Parser(argparse.ArgumentParser):
    """What it cannot take is said as everything else is: it may hold a password."""

    def error(self, message: str) -> NoReturn:
        """Raise Refusal with what argparse found."""
        raise Refusal(
            "this is no command line of saigen",
            where=f"command line: {self.prog}",
            expected=self.format_usage().removeprefix("usage: ").strip(),
            got=message,
            fix=f"`{self.prog} --help` says what it may be",
        )


def parser(table: Iterable[tuple[Verb, str, str]]) -> argparse.ArgumentParser:
    """The parser of verbs: each with its help, and the names of its arguments."""
    whole = _Parser(
        prog="saigen",
        description="Train so that every number can be made again.",
        epilog="KEY=VALUE are Hydra overrides: model=cnn optimizer.lr=0.01. RUN is an id, the "
        "beginning of one, last, last~1, or a path.",
    )
    verbs = whole.add_subparsers(required=True, metavar="VERB")
    for does, says, arguments in table:
        verb = verbs.add_parser(
            does.__name__.removeprefix("_").replace("_", "-"), help=says, description=says
        )
        verb.set_defaults(verb=does)
        for name in arguments.split():
            text = _ARGUMENTS[name]
            switch = {"action": "store_true", "help": text}
            verb.add_argument(*name.split(","), **(switch if isinstance(text, str) else text))
    return whole


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


def tell(text: object) -> None:
    """Say something to the person at the terminal, beside what the verb answers."""
    print(text, file=sys.stderr)


def answer(chosen: Chosen, found: Any, text: str, *, good: bool = True) -> int:
    """Print a document or its text; the exit code."""
    print(found.json_text() if chosen.json else text)
    return 0 if good else 1
