"""What a run gives to the project: model/ and results/, and which run they are of."""

import shutil
from pathlib import Path

from saigen.errors import Refusal
from saigen.files import json_bytes, locked, refuse_unless_replaceable, replacing
from saigen.runs import folders, model_folder, uncommitted
from saigen.runs.model_folder import WEIGHTS, open_model
from saigen.runs.record import is_proven_by, read_record


def publish_model(folder: Path, root: Path) -> None:
    """Copy a run's model to model/, the output of the DVC stage `train`."""
    refuse_unless_replaceable(root / model_folder.FOLDER)
    model = open_model(folder / "model")
    with replacing(root / model_folder.FOLDER) as new:
        model.copy_into(new)


def publish_results(folder: Path, root: Path) -> None:
    """Copy to results/ what git and DVC keep of a run besides its model: a run folder, which
    every verb takes for a RUN in any clone. The whole folder changes at once; what else lies in it
    (of `verify`, about this very recipe) stays.
    """
    published, source = root / folders.RESULTS, folder / uncommitted.UNCOMMITTED
    names = ("record.json", "predictions.csv", "history.csv", "trace.bin")
    proof = (folders.VERIFICATION, folders.BADGE)
    stale = () if is_proven_by(read_record(folder), published / folders.VERIFICATION) else proof
    others = shutil.ignore_patterns(*names, source.name, "metrics.json", *stale)
    with locked(root / folders.RUNS / folders.LOCK), replacing(published) as new:
        if published.is_dir():
            shutil.copytree(published, new, symlinks=True, ignore=others, dirs_exist_ok=True)
        (new / source.name).mkdir()
        if source.is_dir():
            shutil.copytree(source, new / source.name, symlinks=True, dirs_exist_ok=True)
        for name in names:
            shutil.copyfile(folder / name, new / name)
        metrics = json_bytes(read_record(new)["outcome"]["metrics"])
        (new / "metrics.json").write_bytes(metrics)


def run_of_model(root: Path) -> Path:
    """The run that made model/: the newest one with its recipe and its weights."""
    made = open_model(root / model_folder.FOLDER).manifest
    wanted = [made["recipe"], made["files"][WEIGHTS]]
    for folder, record in folders.readable(root / folders.RUNS)[::-1]:
        weights = (record["outcome"]["weights"] or {}).get("sha256")
        if [record["recipe"]["digest"], weights] == wanted:
            return folder
    raise Refusal(
        "the run that made this model is not here",
        where=f"{folders.RUNS}/",
        expected=f"a run of recipe {made['recipe'][:12]}",
        got="no such run",
        fix="run `dvc repro --force train`: the same recipe gives the same model",
    )
