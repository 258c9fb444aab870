"""From snapshot to prepared/: check, split, fit on the training split, write arrays.

No torch here: preparing data should start at once.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import TypeAdapter, ValidationError

from saigen.config.callables import function
from saigen.config.schema import Data, Prepare
from saigen.data.splits import SPLITS, checked
from saigen.digest import digest_bytes, digest_file
from saigen.documents import Count, Name, Open, Sha256, read_document
from saigen.errors import Refusal
from saigen.files import MANIFEST, refuse_unless_replaceable, replacing, write_json, write_whole
from saigen.printing import one_line
from saigen.project_code import place_of

SCHEMA = 2

Arrays = dict[str, np.ndarray]
_IDS = TypeAdapter(tuple[Name, ...])


class Provenance(Open):
    """data/provenance.json, as far as it is read: everything else in it is for people."""

    sha256: Sha256
    rows: Count


@dataclass(frozen=True)
class Table:
    """Records as they were read: `ids`, one a record, and columns of that many rows."""

    ids: tuple[str, ...]
    columns: Mapping[str, np.ndarray]

    def rows(self, chosen: np.ndarray) -> "Table":
        """The records at these positions, in this order."""
        return Table(
            ids=tuple(self.ids[index] for index in chosen.tolist()),
            columns={name: column[chosen] for name, column in self.columns.items()},
        )


class Preparation(Protocol):
    """What `project/prepare.py` provides. Each method is a pure function of its arguments."""

    def read(self, path: Path) -> Table:
        """Read a file in the snapshot's format; targets may be missing (then: prediction)."""

    def fit(self, train: Table) -> Arrays:
        """Learn statistics, from the training split only."""

    def transform(self, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:
        """Arrays of one row a record: what the dataset reads."""


def check_snapshot(data: Data, root: Path, digest: Callable[[Path], str]) -> dict[str, Any]:
    """Compare the snapshot, by a `digest` of it, with its provenance; returns the provenance.

    Raises Refusal if either file is missing or a byte of the snapshot is not as it was taken.
    """
    snapshot, provenance = root / data.snapshot, root / data.provenance
    for path in (snapshot, provenance):
        if not path.is_file():
            raise Refusal(
                "a file of the snapshot is missing",
                where=str(path.relative_to(root)),
                expected="the snapshot that data.dvc names",
                got="no such file",
                fix="run `make data` (or `dvc pull`)",
            )
    stated: dict[str, Any] = read_document(
        provenance,
        Provenance,
        name="provenance",
        expected="a JSON object with the snapshot's sha256 and its rows",
        fix="`git checkout data.dvc && dvc checkout --force data.dvc` brings it back; "
        "src/project/snapshot.py shows how one is written",
    )
    found = digest(snapshot)
    if found != stated["sha256"]:
        raise Refusal(
            "the snapshot is not the one that was taken",
            where=data.snapshot,
            expected=f"sha256 {stated['sha256']} ({data.provenance})",
            got=f"sha256 {found}",
            fix="`git checkout data.dvc && dvc checkout --force data.dvc` brings it back; "
            "for new data, take a new snapshot with a provenance of its own",
        )
    return stated


def prepare(
    data: Data, config: Prepare, preparation: Preparation, root: Path
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Arrays of each split, ids and fitted statistics, as files by name, and what a manifest says.

    Raises Refusal if the snapshot is not as it was taken, or the arrays do not fit together.
    """
    provenance = check_snapshot(data, root, digest_file)
    table = preparation.read(root / data.snapshot)
    refuse_ids(table, data.snapshot)
    splits = _split(table, config)
    fitted = preparation.fit(splits["train"])
    for name, array in fitted.items():
        _refuse_not_finite(array, name, [], preparation.fit)
    made = {split: transformed(preparation, rows, fitted) for split, rows in splits.items()}
    _refuse_misfits(made)
    files = {f"fitted/{name}.npy": _npy(array) for name, array in fitted.items()}
    for split, rows in splits.items():
        files[f"{split}/ids.txt"] = "".join(f"{i}\n" for i in rows.ids).encode()
        files |= {f"{split}/{name}.npy": _npy(array) for name, array in made[split].items()}
    return files, {
        "schema": SCHEMA,
        "snapshot": {"name": data.name, "sha256": provenance["sha256"], "rows": len(table.ids)},
        "rows": {split: len(rows.ids) for split, rows in splits.items()},
        "files": {name: digest_bytes(content) for name, content in sorted(files.items())},
    }


def write_folder(out: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write a prepared folder in place of what is there."""
    refuse_unless_replaceable(out)
    with replacing(out) as new:
        for name, content in files.items():
            write_whole(new / name, content)
        write_json(new / MANIFEST, manifest)


def _refuse_misfits(made: Mapping[str, Arrays]) -> None:
    """Every split has the same arrays, of one type and shape."""
    for split, arrays in made.items():
        for name in sorted(made["train"].keys() | arrays.keys()):
            one, other = (
                f"{a[name].dtype}{list(a[name].shape[1:])}" if name in a else "no such array"
                for a in (made["train"], arrays)
            )
            if one != other:
                raise Refusal(
                    "the arrays of the splits do not fit together",
                    where=f"prepare.preparation: {name} of the {split} split",
                    expected=f"{one}, as in the training split",
                    got=other,
                    fix="let `transform` give every table the same arrays, each row of one shape",
                )


def transformed(preparation: Preparation, table: Table, fitted: Mapping[str, np.ndarray]) -> Arrays:
    """The arrays of a table. Raises Refusal, with array and id, if one has not a row of finite
    numbers for each record.
    """
    arrays = preparation.transform(table, fitted)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.shape[:1] != (len(table.ids),):
            raise Refusal(
                f"the array {name!r} has not one row for each record",
                where=place_of(preparation.transform),
                expected=f"an array of {len(table.ids)} rows",
                got=f"{type(array).__name__} of shape {np.shape(array)}",
                fix="give arrays whose first axis is the records'",
            )
        _refuse_not_finite(array, name, table.ids, preparation.transform)
    return arrays


def _refuse_not_finite(array: np.ndarray, name: str, ids: Sequence[str], method: Any) -> None:
    if array.dtype.kind not in "fc" or (finite := np.isfinite(array)).all():
        return
    at = tuple(np.argwhere(~finite)[0].tolist())
    raise Refusal(
        f"the array {name!r} holds {array[at]}",
        where=f"record {ids[at[0]]}" if ids else f"place {at}, from {place_of(method)}",
        expected="finite numbers",
        got=f"{array[at]} at {at}, the first of {int((~finite).sum())}",
        fix=f"replace it in {place_of(method)}, and keep in an array of its own what was missing",
    )


def _split(table: Table, config: Prepare) -> dict[str, Table]:
    found = function(config.split)(
        ids=table.ids, columns=table.columns, salt=config.salt, fractions=config.fractions
    )
    names = checked(found, len(table.ids), f"prepare.split: {config.split.target}")
    splits = {split: table.rows(np.flatnonzero(names == split)) for split in SPLITS}
    if empty := [split for split, rows in splits.items() if not rows.ids]:
        raise Refusal(
            "a split is empty",
            where=f"prepare.fractions.{empty[0]}",
            expected="at least one record",
            got=f"none of {len(table.ids)}",
            fix="give the split a larger fraction, or take a larger snapshot",
        )
    return splits


def refuse_ids(table: Table, where: str) -> None:
    """Raise Refusal unless each record has an id of its own, on one line of visible text."""
    try:
        _IDS.validate_python(table.ids)
    except ValidationError as error:
        first = error.errors()[0]
        number = int(first["loc"][0])
        raise Refusal(
            "a record has no usable id",
            where=f"{where}: record {number + 1}, id {one_line(table.ids[number])[:80]!r}",
            expected="1 to 512 characters on one line, none of them a control character",
            got=first["msg"].removeprefix("Value error, "),
            fix="give each record an id of its own; files and predictions hold one a line",
        ) from error
    for record_id, times in Counter(table.ids).most_common(1):
        if times > 1:
            raise Refusal(
                "two records have the same id",
                where=f"{where}: {record_id}",
                expected="ids that name one record each",
                got="the id twice",
                fix="give each record an id of its own; the split and the order hang on it",
            )


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return file.getvalue()
