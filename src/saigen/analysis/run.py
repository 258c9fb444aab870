"""A run as the judge sees it: its record, and what its digests stand for."""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from saigen import git_dvc
from saigen.data.prepared import STORE
from saigen.digest import digest_bytes
from saigen.documents import regular
from saigen.files import is_regular
from saigen.runs.folders import RUNS, find
from saigen.runs.record import NAME, read_record
from saigen.runs.store import kept
from saigen.runs.uncommitted import UNCOMMITTED

ABSENT = "-"  # in place of a value that is not there


@dataclass(frozen=True)
class Run:
    """One run. `root` is the project that is asked for what is not in the run's own folder."""

    folder: Path
    record: dict[str, Any]
    root: Path

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.record["run"])

    @property
    def patch(self) -> Path | None:
        """What the tracked files had in place of what their commit has; None: it is not here."""
        return regular(self.folder, f"{UNCOMMITTED}/code.patch")

    @property
    def outcome(self) -> dict[str, Any]:
        """What came out; a part that did not come out is None."""
        outcome: dict[str, Any] = self.record["outcome"]
        return outcome

    def layer(self, name: str) -> dict[str, Any]:
        """One layer of the recipe."""
        layer: dict[str, Any] = self.record["recipe"]["layers"][name]
        return layer

    @property
    def source(self) -> dict[str, str]:
        """All that stood below src/: the code layer and the rest."""
        others: dict[str, str] = self.record["metadata"].get("other_source", {})
        return {**others, **self.layer("code")["files"]}

    @property
    def felt_source(self) -> dict[str, str]:
        """The code layer, and what of the rest a run imported by a name made while it ran."""
        beyond = self.imported("beyond")
        return {
            n: d for n, d in self.source.items() if n in beyond or n in self.layer("code")["files"]
        }

    def content_of(self, name: str) -> dict[str, Any]:
        """What entered the digest of a layer."""
        return {key: value for key, value in self.layer(name).items() if key != "digest"}

    def imported(self, kind: Literal["files", "packages", "beyond"]) -> set[str]:
        """What the run's process imported; empty if that was not recorded."""
        return set((self.record["metadata"].get("imported") or {}).get(kind, ()))

    @property
    def config(self) -> dict[str, Any]:
        """Every value that entered the recipe, as a tree."""
        values: dict[str, Any] = self.layer("config")["values"]
        return values

    def full_config(self) -> dict[str, Any]:
        """The whole config, the keys that are metadata put back where they belong."""
        values: dict[str, Any] = json.loads(json.dumps(self.config))
        for key, value in self.record["metadata"].get("config", {}).items():
            put(values, key, value)
        return values

    def content(self, digest: str | None, path: str) -> bytes | None:
        """What a digest of the record stands for, wherever it can still be had; else None."""
        if digest is None:
            return None
        for runs in (self.folder.parent, self.root / RUNS):
            if (content := kept(runs, digest)) is not None:
                return content
        return next((c for c in self._candidates(path) if digest_bytes(c) == digest), None)

    def _candidates(self, path: str) -> Iterator[bytes]:
        if (own := self.root / path).is_file():
            yield own.read_bytes()
        if given := regular(self.folder, f"{UNCOMMITTED}/untracked/{path}"):
            yield given.read_bytes()
        if path.startswith("prepared/"):
            for variant in (self.root / STORE).glob(f"*/{path.removeprefix('prepared/')}"):
                yield variant.read_bytes()
        commit = (self.record["metadata"].get("git") or {}).get("commit")
        committed = git_dvc.committed(self.root, commit or "", path)
        if committed is None:
            return
        yield committed
        if patch := self.patch:
            with tempfile.TemporaryDirectory() as scratch:
                target = Path(scratch) / path
                target.parent.mkdir(parents=True)
                target.write_bytes(committed)
                git_dvc.apply(Path(scratch), patch, f"--include={path}")
                if is_regular(target):  # a patch may make a link of it
                    yield target.read_bytes()


def open_run(reference: str, root: Path, say: Callable[[str], None] | None = None) -> Run:
    """A RUN: an id, the beginning of one, last, last~1, a run folder or a record file."""
    folder = find(reference, root / RUNS, say)
    path = Path(reference)
    record = read_record(path if path.is_file() else folder / NAME)
    return Run(folder=folder, record=record, root=root)


def put(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a full key in a tree, or take it away if there is no value (ABSENT)."""
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
    values[last] = value
    if value == ABSENT:
        del values[last]
