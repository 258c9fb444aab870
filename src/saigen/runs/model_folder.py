"""A model folder: weights, the config and recipe they came from, and the fitted preparation.

All that `saigen predict` needs, so that training and inference cannot differ in it. Weights are
safetensors, the rest JSON and npy: data, never pickles. Every file has its digest in
manifest.json, which is written last. A folder is read once: what was checked is what is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from saigen.arrays import at_work, load_npy
from saigen.digest import digest_bytes, digest_file, digest_tree
from saigen.documents import (
    DOCUMENT_BYTES,
    MEMORY_BYTES,
    Document,
    RelativePath,
    Sha256,
    Tree,
    conform,
    read_bytes,
    read_document,
    reason,
    regular,
)
from saigen.errors import Refusal
from saigen.files import (
    MANIFEST,
    refuse_other_files,
    refuse_unless_replaceable,
    replacing,
    write_json,
    write_whole,
)
from saigen.recipe import of_config
from saigen.runs.layers import Recipe

FOLDER = Path("model")  # of the project: the published one, output of the DVC stage `train`
WEIGHTS = "weights.safetensors"
CONFIG, RECIPE = "config.json", "recipe.json"
_FIX = "`dvc checkout --force model` brings it back, or `saigen restore RUN`"


class Manifest(Document):
    """What a model folder holds, and the recipe that it is of."""

    schema_: Literal[1] = Field(alias="schema")
    recipe: Sha256
    files: dict[RelativePath, Sha256]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if missing := {WEIGHTS, CONFIG, RECIPE} - self.files.keys():
            raise ValueError(f"no {sorted(missing)[0]} among its files")
        return self


@dataclass(frozen=True)
class ModelFolder:
    """A model folder whose files are what its manifest says, as they were read."""

    path: Path
    manifest: dict[str, Any]
    config: dict[str, Any]
    recipe: dict[str, Any]
    fitted: dict[str, np.ndarray]
    files: dict[str, bytes]  # the manifest too

    def weights(self) -> dict[str, Any]:
        """The tensors by name, on the CPU. Once: what was read is given up for them."""
        from safetensors.torch import load

        with at_work("the weights cannot be read", str(self.path / WEIGHTS), _FIX):
            return load(self.files.pop(WEIGHTS))

    def copy_into(self, folder: Path) -> None:
        """Write what was read into an empty folder."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


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
        write_json(new / CONFIG, config)
        write_json(new / RECIPE, recipe)
        for file in sorted(fitted.glob("*.npy")):
            write_whole(new / "fitted" / file.name, file.read_bytes())
        files = sorted(file for file in new.rglob("*") if file.is_file())
        manifest = {
            "schema": 1,
            "recipe": recipe["digest"],
            "files": {str(file.relative_to(new)): digest_file(file) for file in files},
        }
        conform(manifest, Manifest)
        write_json(new / MANIFEST, manifest)
    return manifest


def open_model(path: Path) -> ModelFolder:
    """Read a model folder and check every byte. Raises Refusal if anything is not as written."""
    manifest_path = regular(path, MANIFEST) or path / MANIFEST
    files = {MANIFEST: _read(manifest_path, DOCUMENT_BYTES)} if manifest_path.is_file() else {}
    manifest = read_document(
        manifest_path,
        Manifest,
        name="model folder",
        expected="the manifest that training writes last",
        fix="run `make train`, or name a folder such as model/ or runs/ID/model",
        content=files.get(MANIFEST),
    )

    def take(file: Path) -> str:
        content = _read(file, max(0, MEMORY_BYTES - sum(map(len, files.values()))))
        files[str(file.relative_to(path))] = content
        return digest_bytes(content)

    what = "a file of the model is not what was trained"
    refuse_other_files(path, manifest["files"], MANIFEST, what=what, fix=_FIX, digest=take)
    config, recipe = (
        read_document(
            path / name,
            kind,
            name=name,
            expected="what training wrote",
            fix=_FIX,
            content=files[name],
        )
        for name, kind in ((CONFIG, Tree), (RECIPE, Recipe))
    )
    if part := _foreign_part(manifest, config, recipe):
        raise Refusal(
            "the parts of this model were not made by one run",
            where=str(path / part),
            expected=f"that of recipe {manifest['recipe'][:12]} ({path / MANIFEST})",
            got="another recipe's",
            fix=_FIX,
        )
    arrays = sorted(name for name in manifest["files"] if name.startswith("fitted/"))
    with at_work("what was fitted cannot be read", str(path / "fitted"), _FIX):
        fitted = {Path(name).stem: load_npy(files[name]) for name in arrays}
    return ModelFolder(path, manifest, config, recipe, fitted, files)


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bytes(path, limit)
    except ValueError as error:
        raise Refusal(
            "a file of the model cannot be read",
            where=str(path),
            expected="a regular file, and a model of at most half of this machine's memory",
            got=reason(error),
            fix=f"{_FIX}; a model that is really so large needs a machine with more memory",
        ) from error


def refuse_other_model(model: ModelFolder, record: Mapping[str, Any]) -> None:
    """Raise Refusal unless a model folder is the one that a record tells of."""
    expected = record["recipe"]["digest"], (record["outcome"]["weights"] or {}).get("sha256")
    found = model.manifest["recipe"], model.manifest["files"][WEIGHTS]
    if found != expected:
        one, other = (f"recipe {r[:12]}, weights {str(w)[:12]}" for r, w in (expected, found))
        raise Refusal(
            "the model in the folder of a run was made by another run",
            where=str(model.path),
            expected=f"{one}, as the record of {record['run']} says",
            got=other,
            fix=f"bring the run's folder from a backup, or make it again: `saigen rerun "
            f"{record['run']}`",
        )


def _foreign_part(
    manifest: Mapping[str, Any], config: dict[str, Any], recipe: Mapping[str, Any]
) -> str | None:
    """The first part of a model folder that the recipe of its manifest did not make."""
    layers = recipe["layers"]
    digests = {name: layer["digest"] for name, layer in layers.items()}
    files: dict[str, str] = manifest["files"]
    prepared: dict[str, str] = layers["data"]["prepared"]
    if not manifest["recipe"] == recipe["digest"] == digest_tree(digests):
        return RECIPE
    if of_config(config).digest != digests["config"]:
        return CONFIG
    fitted = (name for name in {**files, **prepared} if name.startswith("fitted/"))
    return next((name for name in fitted if files.get(name) != prepared.get(name)), None)
