"""Arrays from files, where nobody vouches for the header: it must say what the file holds."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from saigen.documents import reason
from saigen.errors import Refusal

_HEADER_CHARACTERS = 4096


def load_npy(source: Path | bytes, *, mapped: bool = False) -> np.ndarray:
    """The array of an .npy file; `mapped` into memory, read-only, from a path.

    Raises ValueError unless its bytes are just those of a plain array of the shape it names: no
    pickle, no header that asks for more memory than there is.
    """
    if isinstance(source, bytes):
        _check(io.BytesIO(source), len(source))
        return np.asarray(np.load(io.BytesIO(source), allow_pickle=False))
    with source.open("rb") as file:
        _check(file, source.stat().st_size)
    # a plain view of the map: np.memmap itself costs 4 us a batch
    return np.asarray(np.load(source, mmap_mode="r" if mapped else None, allow_pickle=False))


def _check(file: BinaryIO, size: int) -> None:
    version = npy.read_magic(file)
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in header:
        raise ValueError(f"an .npy file of version {version}")
    shape, _, dtype = header[version](file, max_header_size=_HEADER_CHARACTERS)
    if dtype.hasobject or dtype.names is not None or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype}")
    if math.prod(shape) * dtype.itemsize != size - file.tell():
        raise ValueError(f"{size - file.tell()} bytes for an array of {dtype}{list(shape)}")


@contextmanager
def at_work(what: str, where: str, fix: str) -> Iterator[None]:
    """Code of the project that works on what somebody else made: whatever it raises is a Refusal
    with the innermost line of it that Python knows.
    """
    try:
        yield
    except (Refusal, OSError):
        raise
    except Exception as error:
        frame: Any = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        line = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
        raise Refusal(
            what,
            where=where,
            expected="what the config, the weights and the arrays say of each other",
            got=f"{type(error).__name__}: {reason(error)} ({line})",
            fix=fix,
        ) from error
