"""The observer: on while a stage runs; what it found, as a record holds it."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.observing import answers, hook, observed, start
from saigen.observing.secrets import shown


@contextmanager
def observing(root: Path) -> Iterator[dict[tuple[str, str, str], str | None]]:
    """Observe what the project in a folder takes in while the body runs."""
    start.compile_anew()
    hook.install()
    answers.install()
    with observed.observed(root) as seen:
        yield seen


def so_far(given: Iterable[str]) -> list[dict[str, Any]] | None:
    """What was observed since the outermost observer began. `given`: variables that are a recipe's
    or the instrument's own. None where nobody observes.
    """
    with observed.unobserved():
        observed.collect_forked()
        start.note_variables(given)
        start.note_flags()
        start.note_float_modes()
        start.note_modules()
    return observed.first_entries()


def is_as_observed(entry: Mapping[str, Any], root: Path) -> bool:
    """Whether an input would be read again as it was; true where nobody can know."""
    name, value = str(entry["name"]), str(entry["value"])
    if entry["kind"] == "variable":
        held = os.environ.get(name)
        return (observed.ABSENT if held is None else shown(name, held)) == value
    if entry["kind"] in ("file", "module"):
        path = Path(name).expanduser() if name.startswith("~/") else root / name
        return hook.digest_of(str(path)) == value
    return True
