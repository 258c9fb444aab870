"""A model folder: weights, the config and recipe they came from, and the fitted preparation.

All that `saigen predict` needs, so that training and inference cannot differ in it. Weights are
safetensors, the rest JSON and npy: data, never pickles. Every file has its digest in
manifest.json, which is written last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saigen.digest import digest_file
from saigen.files import MANIFEST, refuse_unless_replaceable, replacing, write_json, write_whole
from saigen.refusal import Refusal

FOLDER = Path("model")  # of the project: the published one, output of the DVC stage `train`
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose files are what its manifest says."""

    path: Path
    manifest: dict[str, Any]
    config: dict[str, Any]
    fitted: dict[str, np.ndarray]

    def weights(self) -> dict[str, Any]:
        """The tensors by name, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.path / WEIGHTS)


def write_model(
    path: Path,
    *,
    tensors: Mapping[str, Any],
    config: dict[str, Any],
    recipe: dict[str, Any],
    fitted: Path,
) -> dict[str, Any]:
    """Write a model folder, whole or not at all; returns its manifest.

    Nothing in it tells of time or place, so equal runs give equal bytes.
    """
    from saigen.training.model_state import weights_bytes

    refuse_unless_replaceable(path)
    with replacing(path) as new:
        write_whole(new / WEIGHTS, weights_bytes(tensors))
        write_json(new / "config.json", config)
        write_json(new / "recipe.json", recipe)
        for file in sorted(fitted.glob("*.npy")):
            write_whole(new / "fitted" / file.name, file.read_bytes())
        files = sorted(file for file in new.rglob("*") if file.is_file())
        manifest = {
            "schema": 1,
            "recipe": recipe["digest"],
            "files": {str(file.relative_to(new)): digest_file(file) for file in files},
        }
        write_json(new / MANIFEST, manifest)
    return manifest


def open_model(path: Path) -> ModelFolder:
    """Open a model folder and check every byte. Raises Refusal if anything is not as written."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        expected: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(
            "this is not a model folder",
            where=str(path / MANIFEST),
            expected="the manifest that training writes last",
            got=str(error),
            fix="run `make train`, or name a folder such as model/ or runs/ID/model",
        ) from error
    for name, digest in expected.items():
        file = path / name
        found = f"sha256 {digest_file(file)}" if file.is_file() else "no such file"
        if found != f"sha256 {digest}":
            raise Refusal(
                "a file of the model is not what was trained",
                where=str(file),
                expected=f"sha256 {digest}",
                got=found,
                fix="`dvc checkout --force model` brings it back, or `saigen restore RUN`",
            )
    return ModelFolder(
        path=path,
        manifest=manifest,
        config=json.loads((path / "config.json").read_text(encoding="utf-8")),
        fitted={f.stem: np.load(f, allow_pickle=False) for f in sorted(path.glob("fitted/*.npy"))},
    )
