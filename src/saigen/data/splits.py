# ruff: noqa: ARG001  each takes what any of them may need
"""Splits that `prepare.split` may name: which records are trained on, and which measured.

Each is called with the ids, the columns that the preparation read, and `prepare.salt` and
`prepare.fractions`, and gives "train", "validation" or "test" for each record, as a pure function.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from saigen.config.schema import Fractions
from saigen.errors import Refusal

SPLITS = ("train", "validation", "test")
Columns = Mapping[str, np.ndarray]
Folds = Annotated[int, Field(ge=2)]
Fold = Annotated[int, Field(ge=0)]


def place(text: str, salt: str) -> float:
    """A number in [0, 1]: the first 8 bytes of SHA-256(salt, NUL, text), as a fraction of 2^64."""
    head = hashlib.sha256(f"{salt}\0{text}".encode()).digest()[:8]
    return int.from_bytes(head, "big") / 2**64


def split_of(text: str, salt: str, fractions: Fractions) -> str:
    """The split of an id: a function of it alone, so that a new record moves no other."""
    position = place(text, salt)
    if position < fractions.train:
        return "train"
    return "validation" if position < fractions.train + fractions.validation else "test"


def by_hash(*, ids: Sequence[str], columns: Columns, salt: str, fractions: Fractions) -> list[str]:
    """Each record by the hash of its id."""
    return [split_of(record, salt, fractions) for record in ids]


def by_group(
    *, ids: Sequence[str], columns: Columns, salt: str, fractions: Fractions, column: str
) -> list[str]:
    """Each group by the hash of its value in a column, such as a patient: all its records are in
    one split. The fractions are of groups.
    """
    groups = _column(columns, column, len(ids)).tolist()
    return [split_of(str(group), salt, fractions) for group in groups]


def by_time(
    *, ids: Sequence[str], columns: Columns, salt: str, fractions: Fractions, column: str
) -> list[str]:
    """The earliest records to train on, the latest to test; those of one time are in one split."""
    times = _column(columns, column, len(ids))
    ordered = np.sort(times)
    first = ordered[min(round(fractions.train * len(ids)), len(ids) - 1)]
    last = ordered[min(round((fractions.train + fractions.validation) * len(ids)), len(ids) - 1)]
    names = np.where(times < first, "train", np.where(times < last, "validation", "test"))
    return [str(name) for name in names]


def stratified(
    *, ids: Sequence[str], columns: Columns, salt: str, fractions: Fractions, column: str
) -> list[str]:
    """The same share of every class in each split; within a class by the hash of the id."""
    labels = _column(columns, column, len(ids))
    places = np.array([place(record, salt) for record in ids])
    found = np.full(len(ids), "test", dtype=object)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(places[members], kind="stable")]
        learned = round(fractions.train * len(members))
        picked = round((fractions.train + fractions.validation) * len(members))
        found[members[:learned]] = "train"
        found[members[learned:picked]] = "validation"
    return [str(name) for name in found]


def by_column(
    *,
    ids: Sequence[str],
    columns: Columns,
    salt: str,
    fractions: Fractions,
    column: str,
    train: str | int,
    validation: str | int | None,
    test: str | int,
) -> list[str]:
    """Each record as a column says, by the value that stands for each split.

    Where no value stands for validation (null), a share of the training records is taken, by the
    hash of the id. Raises Refusal on a value that stands for none.
    """
    names = {str(train): "train", str(test): "test"}
    if validation is not None:
        names[str(validation)] = "validation"
    found = []
    for record, value in zip(ids, _column(columns, column, len(ids)).tolist(), strict=True):
        if str(value) not in names:
            raise Refusal(
                "a record stands in no split",
                where=f"the column {column!r} of the record {record}",
                expected=", ".join(f"{value} ({name})" for value, name in names.items()),
                got=str(value),
                fix="name the values of the column in prepare.split, or leave the record out",
            )
        split = names[str(value)]
        is_taken = split == "train" and validation is None
        found.append(_rest(record, salt, fractions) if is_taken else split)
    return found


def k_fold(
    *,
    ids: Sequence[str],
    columns: Columns,
    salt: str,
    fractions: Fractions,
    folds: Folds,
    fold: Fold,
) -> list[str]:
    """One of `folds` parts, by the hash of the id, to test: `fold` counts from 0. The others are
    shared by training and validation in proportion to their fractions.
    """
    if fold >= folds:
        raise Refusal(
            "there is no such fold",
            where="prepare.split.fold",
            expected=f"0 to {folds - 1}",
            got=str(fold),
            fix=f"sweep over all: --multirun prepare.split.fold={','.join(map(str, range(folds)))}",
        )
    tested = [min(int(place(record, salt) * folds), folds - 1) == fold for record in ids]
    return [
        "test" if test else _rest(record, salt, fractions)
        for record, test in zip(ids, tested, strict=True)
    ]


def checked(found: Any, records: int, where: str) -> np.ndarray:
    """The names of the splits, one a record. Raises Refusal if they are none."""
    names = np.asarray(found)
    if names.shape == (records,) and set(names.tolist()) <= set(SPLITS):
        return names
    others = [name for name in names.ravel().tolist() if name not in SPLITS]
    raise Refusal(
        "the split does not say where each record stands",
        where=where,
        expected=f"one of {', '.join(SPLITS)} for each of {records} records",
        got=repr(others[0])[:80] if others else f"{names.size} names",
        fix="change the function that prepare.split names, or name one of saigen.data.splits",
    )


def _rest(record: str, salt: str, fractions: Fractions) -> str:
    """Training or validation, by another hash of the id."""
    share = fractions.validation / (fractions.train + fractions.validation)
    return "validation" if place(record, f"{salt}\0validation") < share else "train"


def _column(columns: Columns, name: str, records: int) -> np.ndarray:
    """A column of one value a record."""
    if name in columns and columns[name].shape == (records,):
        if columns[name].dtype.kind != "f" or np.isfinite(columns[name]).all():
            return columns[name]
        raise _misfit(name, records, "values that are no numbers")
    got = f"shape {columns[name].shape}" if name in columns else f"{', '.join(sorted(columns))}"
    raise _misfit(name, records, got)


def _misfit(name: str, records: int, got: str) -> Refusal:
    return Refusal(
        f"the column {name!r} cannot split the records",
        where="prepare.split.column",
        expected=f"a column of the table that `read` gives, one value for each of {records}",
        got=got,
        fix="have `read` of the preparation give such a column",
    )
