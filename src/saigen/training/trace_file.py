"""The file of a trace: a header, and rows of fixed size.

Each row carries the digest of all rows up to it, so that the first step in which two traces
differ is found by binary search. No torch here: whoever compares traces should start at once.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from saigen.documents import conform, parse_json, regular
from saigen.errors import Failure, Refusal

NAME = "trace.bin"
TENSORS = "tensors.bin"  # the trace in depth, beside it (`tensor_trace.py`)
SCHEMA = 2
HEADER_BYTES = 1024  # the trace has one layout
ROW = np.dtype(
    [
        ("step", "<i8"),  # counted from 0
        ("samples", "<u8"),  # BLAKE2b of the batch's sample indices, in order
        ("loss", "<f8"),  # mean over the batch's terms
        ("gradients", "<u8"),  # fingerprint of their mean, after clipping
        ("weights", "<u8"),  # fingerprint, after the update
        ("optimizer", "<u8"),  # of one kind of the optimizer's state, after the update
        ("chain", "V16"),  # BLAKE2b of the chain before and this row
    ]
)

_CHAINED = ROW.itemsize - 16  # a row ends with 16 bytes of chain


def header() -> bytes:
    """The first bytes of a trace, HEADER_BYTES of them."""
    columns = {name: str(ROW[name]) for name in ROW.names or ()}
    head = json.dumps({"schema": SCHEMA, "row": columns}).encode()
    return head.ljust(HEADER_BYTES - 1) + b"\n"


def chained(rows: np.ndarray, chain: bytes) -> bytes:
    """Fill the last column of rows that follow those of a chain; returns the chain's new end."""
    for row in rows:
        chain = link(chain, row.tobytes())
        row["chain"] = chain
    return chain


def link(chain: bytes, row: bytes) -> bytes:
    """The chain's end behind one row more."""
    return hashlib.blake2b(chain + row[:_CHAINED], digest_size=16).digest()


def refuse_altered(path: Path, row: int | None, expected: str | None, got: str) -> None:
    """Raise Failure unless the rows before a checkpoint are those that stood there when it was
    made, by a digest of them all, or of those up to the row of a step.
    """
    if expected != got:
        raise Failure(
            "the rows before a checkpoint are not those that the run wrote",
            where=str(path) if row is None else f"{path}, row of step {row}",
            expected=f"digest {expected}",
            got=f"digest {got}" if path.is_file() else "no such file",
            fix=f"remove {path.parent} and start again: this run can vouch for nothing",
        )


def read_trace(run: Path) -> np.ndarray:
    """All whole rows of a run's trace, (steps,) of ROW, mapped into memory.

    Raises Refusal if the file is missing or is not a trace.
    """
    path = run / NAME
    try:
        if regular(run, NAME) is None:
            raise FileNotFoundError(f"no file {NAME}")
        with path.open("rb") as file:
            head = parse_json(file.read(HEADER_BYTES))
            known = head["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError) as error:
        known, head = False, str(error)
    if not known:
        raise Refusal(
            "this is not a readable trace",
            where=str(path),
            expected=f"a trace of schema {SCHEMA}",
            got=str(head)[:80],
            fix="take the run's trace from the remote, or make the run again",
        )
    rows = (path.stat().st_size - HEADER_BYTES) // ROW.itemsize
    if rows <= 0:
        return np.zeros(0, ROW)
    return np.memmap(path, ROW, mode="r", offset=HEADER_BYTES, shape=(rows,))


def first_difference(one: np.ndarray, other: np.ndarray) -> int | None:
    """The first row in which two traces differ, by binary search over the chain; None if none
    does. A trace that ends earlier differs where it ends.
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one["chain"][middle].tobytes() == other["chain"][middle].tobytes():
            low = middle + 1
        else:
            high = middle
    return None if low == len(one) == len(other) else low


def read_tensors(run: Path) -> tuple[list[str], np.ndarray]:
    """The parameters' names, and for each traced step `step` and `tensors`, (parameters, 2) uint64:
    the fingerprints of the gradient and of the parameter after the update. Nothing if that was
    not asked for.
    """
    path = run / TENSORS
    try:
        if regular(run, TENSORS) is None:
            return [], np.zeros(0, tensor_row(0))
        head, _, body = path.read_bytes().partition(b"\n")
        conform(names := parse_json(head), list[str])
    except (OSError, ValueError):
        return [], np.zeros(0, tensor_row(0))
    dtype = tensor_row(len(names))
    return names, np.frombuffer(body, dtype, len(body) // dtype.itemsize)


def tensor_row(parameters: int) -> np.dtype:
    """One step of the trace in depth."""
    return np.dtype([("step", "<i8"), ("tensors", "<u8", (parameters, 2))])
