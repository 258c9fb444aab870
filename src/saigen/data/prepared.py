"""Prepared data as training reads it: the variant that belongs to a config, found or made.

A variant is keyed by all that it was made from: the snapshot, the values of `data` and `prepare`
that a preparation reads, and the source that it imports. `prepared/`, the output of the stage
`prepare`, is one of them; the others lie in STORE, each made once.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from saigen.arrays import at_work, load_npy
from saigen.config.callables import instantiate, targets
from saigen.config.schema import Config, Prepare
from saigen.data import preparation
from saigen.digest import digest_file, digest_tree, digest_value
from saigen.digest_cache import digest_unless_seen
from saigen.documents import (
    DOCUMENT_BYTES,
    Document,
    Name,
    Open,
    RelativePath,
    Sha256,
    Tree,
    conform,
    parse_json,
    read_bytes,
    read_document,
    regular,
)
from saigen.environment import machine, torch_flags
from saigen.errors import Refusal
from saigen.files import MANIFEST, locked, refuse_other_files, write_json
from saigen.observing import observed
from saigen.observing.declared import declared, undeclared
from saigen.observing.file_reads import noted
from saigen.observing.observed import Observed
from saigen.observing.observer import is_as_observed, observing
from saigen.project_code import project_errors
from saigen.recipe import Rows, Snapshot
from saigen.source_code import imported_sources

FOLDER = Path("prepared")
STORE = Path(".saigen/prepared")
SOURCES = Path("prepare_sources.json")  # what the stage `prepare` depends on
RUN_SOURCES = Path("run_sources.json")  # what the stages `train` and `evaluate` depend on

Say = Callable[[str], None]
Kept = Callable[[str], bytes | None]  # the content with a digest
_FIX = "run `dvc repro --force prepare` or `saigen prepare`"


class Origin(Open):
    """What a variant is made from."""

    code: dict[RelativePath, Sha256]


class Manifest(Document):
    """The document prepared/manifest.json: from which snapshot, how many rows, which files."""

    schema_: Annotated[Literal[2], Field(alias="schema")]
    snapshot: Snapshot
    rows: Rows
    files: dict[RelativePath, Sha256]
    key: Annotated[Sha256, Field(description="of the variant")]
    made_from: Origin
    also_read: Annotated[
        dict[Name, Sha256], Field(description="other files that the preparation read")
    ]
    observed: Annotated[
        list[Observed], Field(default=[], description="what else it took in, and from where")
    ]
    environment: Annotated[Tree, Field(default={}, description="in which it was made")]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for split in Rows.model_fields:
            if f"{split}/ids.txt" not in self.files:
                raise ValueError(f"no {split}/ids.txt among its files")
        return self


@dataclass(frozen=True)
class Prepared:
    """A prepared folder whose files are what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    def arrays(self, part: str) -> dict[str, np.ndarray]:
        """The arrays of a split (or of `fitted`), memory-mapped read-only, by name."""
        names = [Path(name) for name in self.manifest["files"] if name.endswith(".npy")]
        paths = [self.folder / name for name in names if str(name.parent) == part]
        with at_work("prepared data cannot be read", str(self.folder / part), _FIX):
            return {path.stem: load_npy(path, mapped=True) for path in paths}

    def ids(self, split: str) -> list[str]:
        """The record ids of a split, in row order."""
        with at_work("prepared data cannot be read", f"{self.folder}/{split}/ids.txt", _FIX):
            text = (self.folder / split / "ids.txt").read_text(encoding="utf-8")
            assert "\r" not in text
        return text.removesuffix("\n").split("\n") if text else []

    @property
    def sources(self) -> list[str]:
        """The files of the project's source that the preparation imported."""
        read = {**self.manifest["made_from"]["code"], **self.manifest["also_read"]}
        return [name for name in read if name.endswith(".py")]


def sources_of(config: Prepare, root: Path) -> dict[str, str]:
    """The source that a preparation imports, as its text says, by path: digests."""
    modules = [target.rpartition(".")[0] for target in targets(config.model_dump(mode="json"))]
    return imported_sources(root, [*modules, preparation.__name__])


def made_from(config: Config, root: Path) -> dict[str, Any]:
    """All that a variant is made from, the snapshot checked; its digest is the variant's key."""
    data, seen = config.data, partial(digest_unless_seen, root=root)
    return {
        "snapshot": preparation.check_snapshot(data, root, seen)["sha256"],
        "data": {name: getattr(data, name) for name in ("name", "snapshot", "provenance")},
        "prepare": config.prepare.model_dump(mode="json"),
        "code": sources_of(config.prepare, root),
        **({"inputs": found} if (found := declared(config.inputs, root)) else {}),
    }


def make(config: Config, root: Path, out: Path, say: Say) -> Prepared:
    """Prepare into a folder, in place of what is there."""
    origin = made_from(config, root)
    data = config.data
    observed.cover((root / data.snapshot, root / data.provenance))
    with (
        project_errors(),
        observing(root) as seen,
        noted(root, {*origin["code"], data.snapshot, data.provenance}) as also_read,
    ):
        steps = instantiate(config.prepare.preparation)
        if "torch" in sys.modules:  # brought by the project: it calculates as in a training
            torch_flags.apply(config)
        files, manifest = preparation.prepare(data, config.prepare, steps, root)
    manifest |= {"key": digest_value(origin), "made_from": origin, "also_read": also_read}
    manifest |= {"observed": undeclared(observed.entries(seen), config.inputs)}
    manifest |= {"environment": machine.of_preparation(root)}
    own = root / STORE / ".made" / manifest["key"]  # DVC takes an output away before its stage
    _tell_impure(_manifest(own), manifest, root, say)
    own.mkdir(parents=True, exist_ok=True)
    write_json(own / MANIFEST, manifest)
    preparation.write_folder(out, files, manifest)
    say("prepared " + ", ".join(f"{rows} {split}" for split, rows in manifest["rows"].items()))
    return Prepared(out, manifest)


def _tell_impure(before: Mapping[str, Any], made: Mapping[str, Any], root: Path, say: Say) -> None:
    """Say so where equal snapshot, values and source were prepared otherwise than before."""
    names = [n for n, d in made["files"].items() if before.get("files", made["files"]).get(n) != d]
    if before.get("made_from") != made["made_from"] or not names:
        return
    other = [entry for entry in before.get("observed", ()) if not is_as_observed(entry, root)]
    other += [e for e in made["observed"] if e not in before.get("observed", ())]
    titles = {f"{e['kind']} {e['name']} ({e['line']})" for e in other}
    was, now = before.get("environment", {}), made["environment"]
    titles |= {f"environment {name}" for name in now if was and was.get(name) != now[name]}
    read = ", ".join(sorted(titles))
    why = f"what it took in differs: {read}" if read else "no input that was observed differs"
    arrays = ", ".join(names)
    say(f"VIOLATION: equal snapshot, values and source gave other arrays ({arrays}); {why}")


def variant(config: Config, root: Path, say: Say) -> Prepared:
    """The arrays that belong to a config: `prepared/` if that is it, else one of the store, which
    is made if it is missing, by one process while the others wait.
    """
    origin = made_from(config, root)
    own = root / STORE / digest_value(origin)
    for folder in (root / FOLDER, own):
        if _fits(folder, origin, root):
            return open_prepared(folder)
    with _alone(own):
        return open_prepared(own) if _fits(own, origin, root) else make(config, root, own, say)


def variant_of(
    record: Mapping[str, Any], config: Config, root: Path, kept: Kept, say: Say
) -> Prepared:
    """The arrays that a run read, to measure it again: found, put together from what was `kept`
    beside the runs, or prepared once more. Raises Refusal if none of these gives them.
    """
    layer = record["recipe"]["layers"]["data"]
    found = _with_files(layer["prepared"], root) or _from_kept(layer, root, kept)
    if found is None:
        found = variant(config, root, say)
    if found.manifest["files"] != layer["prepared"]:
        here, trained = found.manifest["files"], layer["prepared"]
        names = sorted(trained.keys() | here.keys())
        raise Refusal(
            "the data that this run was measured on cannot be had any more, so its metrics would "
            "not be comparable",
            where=str(found.folder / MANIFEST),
            expected=f"the files that the record of {record['run']} names",
            got="others: " + ", ".join(n for n in names if trained.get(n) != here.get(n)),
            fix=f"`saigen rerun {record['run']}` makes it again with its own source and data",
        )
    return found


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared folder and check every byte of it.

    Raises Refusal if any file differs from its digest, is missing, or is not named.
    """
    manifest: dict[str, Any] = read_document(
        regular(folder, MANIFEST) or folder / MANIFEST,
        Manifest,
        name="manifest",
        expected="what `saigen prepare` writes last",
        fix=_FIX,
    )
    refuse_other_files(
        folder,
        manifest["files"],
        MANIFEST,
        what="prepared data is not what was prepared",
        fix=f"remove {folder} and start again: what is missing is prepared anew (the output of "
        "the stage: `dvc repro --force prepare`)",
    )
    return Prepared(folder=folder, manifest=manifest)


def _fits(folder: Path, origin: Mapping[str, Any], root: Path) -> bool:
    """Whether a folder was prepared from this, and what else was read is still the same."""
    manifest = _manifest(folder)
    also_read = manifest.get("also_read", {})
    return (
        manifest.get("made_from") == origin
        and all(
            (root / name).is_file() and digest_file(root / name) == digest
            for name, digest in also_read.items()
        )
        and all(is_as_observed(entry, root) for entry in manifest.get("observed", ()))
    )


def _manifest(folder: Path) -> dict[str, Any]:
    """What a manifest says; nothing where there is none of this schema."""
    try:
        found: dict[str, Any] = parse_json(read_bytes(folder / MANIFEST, DOCUMENT_BYTES))
        conform(found, Manifest)
    except (OSError, ValueError):
        return {}
    return found


def _with_files(files: Mapping[str, str], root: Path) -> Prepared | None:
    """The prepared folder that holds these very files, whatever it was made from."""
    folders = (root / FOLDER, *sorted((root / STORE).glob("[!.]*")))
    fitting = (folder for folder in folders if _manifest(folder).get("files") == files)
    return next((open_prepared(folder) for folder in fitting), None)


def _from_kept(layer: Mapping[str, Any], root: Path, kept: Kept) -> Prepared | None:
    """The arrays of a run from what was kept, put into the store; None if one was not."""
    files: dict[str, bytes] = {}
    for name, digest in layer["prepared"].items():
        if (content := kept(digest)) is None:
            return None
        files[name] = content
    own = root / STORE / digest_tree(layer["prepared"])
    manifest = {
        "schema": preparation.SCHEMA,
        "snapshot": layer["snapshot"],
        "rows": layer["rows"],
        "files": layer["prepared"],
        "key": own.name,
        "made_from": {"code": {}},  # nobody knows any more
        "also_read": {},
    }
    with _alone(own):
        preparation.write_folder(own, files, manifest)
    return Prepared(own, manifest)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make a folder of the store."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{folder.name}.lock")):
        yield
