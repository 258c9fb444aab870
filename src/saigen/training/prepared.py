"""Prepared data as training reads it: checked against its manifest, then mapped into memory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saigen.digest import digest_file
from saigen.refusal import Refusal

FOLDER = Path("prepared")


@dataclass(frozen=True)
class Prepared:
    """A prepared folder whose files are what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    def arrays(self, part: str) -> dict[str, np.ndarray]:
        """The arrays of a split (or of `fitted`), memory-mapped read-only, by name."""
        paths = sorted((self.folder / part).glob("*.npy"))
        # a plain view of the map: np.memmap itself costs 4 us a batch
        return {p.stem: np.asarray(np.load(p, mmap_mode="r", allow_pickle=False)) for p in paths}

    def ids(self, split: str) -> list[str]:
        """The record ids of a split, in row order."""
        return (self.folder / split / "ids.txt").read_text(encoding="utf-8").splitlines()


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared folder and check every byte of it.

    Raises Refusal if it is missing or if any file differs from its digest.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise Refusal(
            "there is no prepared data",
            where=str(path),
            expected="the folder that the stage `prepare` writes",
            got="no such file",
            fix="run `dvc repro prepare` or `saigen prepare`",
        )
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, expected in manifest["files"].items():
        file = folder / name
        found = f"sha256 {digest_file(file)}" if file.is_file() else "no such file"
        if found != f"sha256 {expected}":
            raise Refusal(
                "prepared data is not what was prepared",
                where=str(file),
                expected=f"sha256 {expected} ({path})",
                got=found,
                fix="run `dvc repro --force prepare` or `saigen prepare`",
            )
    return Prepared(folder=folder, manifest=manifest)
