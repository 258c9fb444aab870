"""Project code: which lines are the project's own, and errors that come out of them."""

import inspect
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saigen.errors import Failure, Refusal

FRAME = re.compile(r'File "([^"]+)", line (\d+)(?:, in (\w+))?')
# wherever they lie: on PYTHONPATH, in the user's own, behind a .pth file
_LIBRARIES = re.compile(r"[\\/](site|dist)-packages[\\/]")
_INSTRUMENT = str(Path(__file__).resolve().parent) + os.sep
_FOREIGN = (
    "<",  # <frozen importlib...>, <string>
    _INSTRUMENT,
    *{sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "purelib", "platlib")},
)


def is_project(file: str) -> bool:
    """Whether a line of this file is the project's own, not the instrument's or a library's."""
    return not (file.startswith(_FOREIGN) or _LIBRARIES.search(file))


def is_instrument(file: str) -> bool:
    """Whether a line of this file is the instrument's."""
    return file.startswith(_INSTRUMENT)


def place_of(called: Any) -> str:
    """Where a function or class is defined, such as ``src/project/task.py:26 (Task.loss)``."""
    called = inspect.unwrap(called)
    name = getattr(called, "__qualname__", type(called).__qualname__)
    try:
        file, (_, line) = inspect.getsourcefile(called), inspect.getsourcelines(called)
    except (TypeError, OSError):
        return f"{getattr(called, '__module__', '')}.{name}".lstrip(".")
    return f"{os.path.relpath(file or '')}:{line} ({name})"


def line_of(error: BaseException) -> str | None:
    """The innermost line of the project that an error came through; None if there is none.

    A loader's worker tells its traceback as text.
    """
    frames = [(f.f_code.co_filename, n, f.f_code.co_qualname)
              for f, n in traceback.walk_tb(error.__traceback__)]  # fmt: skip
    if not any(is_project(file) for file, *_ in frames):
        frames += [(file, int(n), name) for file, n, name in FRAME.findall(str(error))]
    own = [at for at in frames if is_project(at[0])]
    return f"{os.path.relpath(own[-1][0])}:{own[-1][1]} ({own[-1][2]})" if own else None


@contextmanager
def project_errors() -> Iterator[None]:
    """Around what calls the project: raises Failure that names the line an error came from.

    An error that no line of the project has a part in goes on as it is.
    """
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        if not (where := line_of(error)):
            raise
        raise Failure(
            f"{type(error).__name__} in {where}",
            where=where,
            expected="project code that ends without an error",
            got=str(error).strip() or type(error).__name__,
            fix="mend the line; SAIGEN_TRACEBACK=1 shows the whole way to it",
        ) from error
