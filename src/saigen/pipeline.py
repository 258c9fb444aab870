"""The stages of dvc.yaml, one function each: what a person reads after dvc.yaml itself."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saigen import source_code as code
from saigen.arrays import at_work
from saigen.config.callables import instantiate
from saigen.config.compose import Composition, typed, with_fitted
from saigen.config.fitted import fitted_values
from saigen.config.schema import Config
from saigen.data import preparation
from saigen.data.predictions import predictions_csv
from saigen.data.prepared import (
    FOLDER,
    RUN_SOURCES,
    SOURCES,
    Prepared,
    make,
    sources_of,
    variant,
    variant_of,
)
from saigen.digest import digest_bytes
from saigen.environment import lock, torch_flags
from saigen.environment import machine as environment
from saigen.errors import Failure, Refusal, refuse_secrets
from saigen.files import MANIFEST, locked, write_json, write_whole
from saigen.interruption import InterruptedAtCheckpoint
from saigen.observing import declared, observed
from saigen.observing.observer import so_far
from saigen.observing.start import refuse_foreign_source, system_libraries
from saigen.project_code import project_errors
from saigen.recipe import LAYERS, of_config, of_data, of_distribution, of_randomness, recipe_entry
from saigen.runs import folders, ledger, metadata, store, uncommitted
from saigen.runs.model_folder import (
    WEIGHTS,
    ModelFolder,
    open_model,
    refuse_other_model,
    write_model,
)
from saigen.runs.record import (
    json_metrics,
    new_record,
    outcome_digest,
    read_record,
    write_failure,
    write_record,
)
from saigen.training.processes import Group

if TYPE_CHECKING:
    import torch

    from saigen.training.evaluation import Evaluation


def list_sources(composition: Composition, root: Path) -> None:
    """Stage `sources`: which source the preparation imports, for `prepare` to depend on, and which
    is in the code layer, for `train` and `evaluate`.
    """
    write_json(root / SOURCES, sources_of(composition.config.prepare, root))
    write_json(root / RUN_SOURCES, code.run_sources(composition.values, root))


def prepare(composition: Composition, root: Path, say: Callable[[str], None]) -> None:
    """Stage `prepare`: the snapshot becomes prepared/."""
    lock.hold_to_lock(root, composition.config.reproducibility.environment_drift)
    refuse_foreign_source(root)
    make(composition.config, root, root / FOLDER, say)


def train(
    composition: Composition, root: Path, group: Group, say: Callable[[str], None]
) -> Path | None:
    """Stage `train`: arrays become runs/ID/model. Returns the run folder; None where this is
    not rank 0.

    The same recipe continues where it was interrupted, whatever the number of processes.
    """
    from saigen.training import loop

    chosen, before = composition.config, set(sys.modules)
    refuse_foreign_source(root)
    drift = lock.hold_to_lock(root, chosen.reproducibility.environment_drift)
    switches = _set_switches(chosen)
    prepared = variant(chosen, root, say)
    recipe = capture_recipe(composition, prepared, switches, drift, root)
    layers = recipe["layers"]
    group.refuse_unless_same("recipe", {name: layers[name]["digest"] for name in LAYERS})
    _observed(chosen)
    learn = partial(loop.train, chosen, prepared, group=group, recipe=recipe["digest"], say=say)
    if not group.writes:
        if not group.share(None):  # rank 0 says whether there is anything left to train
            with project_errors():
                learn(folder=None)
            group.gather(_observed(chosen))
        return None
    ledger.refuse_unusable(root / folders.RUNS)
    with folders.claim(recipe["digest"], root / folders.RUNS, say) as folder:
        record = _begin(folder, recipe, composition, root, drift=drift, prepared=prepared, say=say)
        if record["outcome"]["weights"] and (folder / "model" / MANIFEST).is_file():
            group.share(True)
            return folder  # interrupted after training: only the evaluation is missing
        group.share(False)
        with _failure_recorded(folder):
            trained = learn(folder=folder)
        torch_flags.tell_flipped(switches)
        inputs = observed.merged(prepared.manifest.get("observed", ()),
                                 *group.gather(_observed(chosen)))  # fmt: skip
        store.keep(folder.parent, root, declared.observed_files(inputs or ()))
        if inputs:
            say(f"warning: taken in, and declared nowhere (conf/inputs): {declared.words(inputs)}")
        manifest = write_model(
            folder / "model",
            tensors=trained.tensors,
            config=composition.values,
            recipe=recipe,
            fitted=prepared.folder / "fitted",
        )
        weights = {
            "sha256": manifest["files"][WEIGHTS],
            "initial": trained.initial_weights,
            "step": trained.step,
        }
        record["outcome"] |= {"weights": weights, "trace": trained.trace}
        imported = metadata.imported(root, prepared.sources)
        numbers = fitted_values(chosen, prepared.arrays("fitted"))
        training = trained.metadata | {"fitted": numbers}
        record["metadata"] |= {"training": training, "imported": imported}
        record["metadata"] |= {"prepared_in": prepared.manifest.get("environment", {})}
        record["metadata"] |= {"observed": inputs, "libraries": system_libraries()}
        metadata.note_beyond(record, root, before)
        write_record(folder, record)
    return folder


def evaluate(
    folder: Path, root: Path, say: Callable[[str], None]
) -> tuple[dict[str, Any], ledger.RecipeHistory | None]:
    """Stage `evaluate`: the frozen test split completes the record of a run.

    Returns the record and, when the run was entered just now, what the ledger says of it. A run
    that is complete already is measured again, and must give what its record says.
    """
    record = read_record(folder)
    if record["complete"]:
        return _evaluated(folder, root, record, say)
    with locked(folder / folders.LOCK, wait=bool(record["outcome"]["weights"])) as free:
        if not free:
            raise Refusal(
                "the run is being trained",
                where=str(folder),
                expected="a run that is trained",
                got="another process holds its lock",
                fix="wait for that process; it evaluates the run when it is trained",
            )
        with locked(folder.parent / folders.LOCK):
            ledger.settle(folder.parent)  # it may be entered, with its record ready beside
        return _evaluated(folder, root, read_record(folder), say)


def refuse_edited(folder: Path, root: Path) -> None:
    """Raises Refusal if the source was edited between a run's training and its evaluation: the
    record would name the one and tell the numbers of the other.
    """
    record = read_record(folder)
    if not record["complete"] and (names := _edited(record, root)):
        raise Refusal(
            "the source was edited since this run was trained, and its evaluation is missing",
            where=", ".join(names),
            expected=f"the source that the record of {folder.name} names",
            got="another",
            fix="`saigen train` makes a run of the source as it is now; or bring back the files",
        )


def _edited(record: Mapping[str, Any], root: Path) -> list[str]:
    imported = record["metadata"].get("imported", {"files": ()})["files"]
    return code.edited(root, record["recipe"]["layers"]["code"]["files"], imported)


def _evaluated(
    folder: Path, root: Path, record: dict[str, Any], say: Callable[[str], None]
) -> tuple[dict[str, Any], ledger.RecipeHistory | None]:
    model, before = open_model(folder / "model"), set(sys.modules)
    refuse_other_model(model, record)
    chosen = typed(model.config, (), str(folder)).config
    lock.hold_to_lock(root, chosen.reproducibility.environment_drift)
    _set_switches(chosen)
    recorded = record["recipe"]["layers"]["data"].get("inputs", {})
    declared.refuse_altered(recorded, declared.declared(chosen.inputs, root), record["run"])
    prepared = variant_of(record, chosen, root, partial(store.kept, folder.parent), say)
    from saigen.data.contract import refuse_nonfinite

    readable = at_work(
        "the run cannot be measured",
        where=str(folder),
        fix="`saigen audit` names what was altered",
    )
    with readable, _failure_recorded(folder):
        arrays, ids = prepared.arrays("test"), prepared.ids("test")
        evaluation, network = _trained(model, chosen, "test", arrays)
        found, metrics = evaluation.measure(network)
        if chosen.trainer.nonfinite_metrics == "refuse":
            refuse_nonfinite(metrics, f"evaluation of {folder.name}")
        table = predictions_csv(ids, found)
    outcome = {
        "metrics": json_metrics(metrics),
        "predictions": {"sha256": digest_bytes(table), "rows": len(ids)},
    }
    if record["complete"]:
        for part, value in outcome.items():
            if record["outcome"][part] != value:
                raise Failure(
                    "the same weights gave something else than the record says",
                    where=f"{folder.name}: outcome.{part}",
                    expected=str(record["outcome"][part]),
                    got=str(value),
                    fix=f"`saigen rerun {folder.name}` takes the run's own source; edited since: "
                    + ", ".join(names)
                    if (names := _edited(record, root))
                    else "look for a difference of the machine: `saigen show` lists what was "
                    "recorded",
                )
        return record, None
    write_whole(folder / "predictions.csv", table)
    record["outcome"].update(outcome)
    record["outcome"]["digest"] = outcome_digest(record["outcome"])
    record["metadata"]["finished_at"] = metadata.now()
    metadata.note_beyond(record, root, before)
    record["metadata"]["observed"] = observed.merged(
        record["metadata"].get("observed"), _observed(chosen)
    )
    return record, ledger.complete(folder, record)


def _observed(chosen: Config) -> list[dict[str, Any]] | None:
    """What this process took in from outside of the recipe until now."""
    everything = so_far({*environment.VARIABLES, *torch_flags.environment_of(chosen)})
    if everything is None:
        return None
    found = declared.undeclared(everything, chosen.inputs)
    declared.refuse_undeclared(found, chosen.inputs)
    return found


def predict(model: ModelFolder, source: Path, root: Path, say: Callable[[str], None]) -> bytes:
    """Predictions, as CSV, for the rows of a file in the snapshot's format.

    The preparation that was fitted in training travels inside the model folder, its source does
    not: which of the files that are used here were edited since is said.
    """
    chosen = typed(model.config, (), str(model.path)).config
    lock.hold_to_lock(root, "warn")  # a model that was brought here has no conf/ to lower it in
    _set_switches(chosen)
    if not source.is_file():
        raise Refusal(
            "there is nothing to predict from",
            where=str(source),
            expected="a file in the snapshot's format",
            got="no such file",
            fix=f"name a file such as {chosen.data.snapshot}",
        )
    readable = at_work(
        "the model cannot predict",
        where=f"{model.path} on {source}",
        fix="`saigen restore RUN` brings a model back as it was trained",
    )
    with readable, project_errors():
        steps: preparation.Preparation = instantiate(chosen.prepare.preparation)
        table = steps.read(source)
        preparation.refuse_ids(table, str(source))
        arrays = preparation.transformed(steps, table, model.fitted)
        evaluation, network = _trained(model, chosen, "prediction", arrays)
        predictions = evaluation.predict(network)
    trained = model.recipe["layers"]["code"]["files"]
    if names := code.edited(root, trained, metadata.imported(root, ())["files"]):
        say(f"edited since this model was trained, so others may come out: {', '.join(names)}")
    return predictions_csv(table.ids, predictions)


def capture_recipe(
    composition: Composition,
    prepared: Prepared,
    switches: dict[str, Any],
    drift: lock.Drift,
    root: Path,
) -> dict[str, Any]:
    """All six layers, as they stand before step 0."""
    from saigen.streams import SCHEME

    chosen = composition.config
    layers = (
        of_data(prepared.manifest, declared.declared(chosen.inputs, root)),
        of_config(composition.values),
        code.capture(composition.values, root),
        environment.capture(
            root,
            switches,
            chosen.hardware.device,
            portable=chosen.reproducibility.name == "portable",
            replaced=drift.replaced,
        ),
        of_randomness(chosen, SCHEME),
        of_distribution(chosen),
    )
    entry = recipe_entry(layers)
    refuse_secrets(entry["layers"], str, "the recipe")
    return entry


def _begin(
    folder: Path,
    recipe: dict[str, Any],
    composition: Composition,
    root: Path,
    *,
    drift: lock.Drift,
    prepared: Prepared,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the record as it stands before step 0, or take up the one of an interrupted start.

    What the digests of code and data stand for is kept, so that `diff` can name a difference.
    """
    surroundings = metadata.capture(root, composition, drift.lines)
    if (folder / "record.json").is_file():
        record = read_record(folder)
        if failure := record["metadata"].pop("failure", None):
            surroundings["after_failure"] = failure
            say(f"this run failed before ({failure['what']}); the same recipe may fail there again")
        record["metadata"]["continued"].append(surroundings)
    else:
        inputs, files = recipe["layers"]["data"], code.all_sources(root)
        others = {n: d for n, d in files.items() if n not in recipe["layers"]["code"]["files"]}
        files |= recipe["layers"]["code"]["files"]  # as they were hashed before
        state = uncommitted.keep(root, folder, surroundings["git"], files)
        if line := uncommitted.left_out_line(state):
            print(line, file=sys.stderr)
        record = new_record(
            folder.name, recipe, surroundings | {"git": state, "other_source": others}
        )
        snapshot = {composition.config.data.snapshot: inputs["snapshot"]["sha256"]}
        store.keep(folder.parent, root, files | snapshot)
        store.keep(folder.parent, root, declared.kept_files(inputs.get("inputs", {})))
        store.keep(folder.parent, prepared.folder, inputs["prepared"])
    write_whole(folder / "config.yaml", composition.yaml.encode())
    write_record(folder, record)
    return record


@contextmanager
def _failure_recorded(folder: Path) -> Iterator[None]:
    """Around what makes a run: the record of one that ends badly says how, for it was not merely
    interrupted.
    """
    try:
        with project_errors():
            yield
    except InterruptedAtCheckpoint:
        raise
    except Exception as error:
        what = error.what if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"
        with suppress(OSError, Refusal):  # a full disk, a folder that is gone
            write_failure(folder, what, str(error))
        raise


def _set_switches(chosen: Config) -> dict[str, Any]:
    torch_flags.apply(chosen)
    switches = torch_flags.read_back()
    torch_flags.refuse_unless_set(chosen, switches)
    return switches


def _trained(
    model: ModelFolder, chosen: Config, purpose: str, arrays: dict[str, np.ndarray]
) -> tuple["Evaluation", "torch.nn.Module"]:
    """A model folder's network, built as for training, and how it is measured."""
    import torch

    from saigen.streams import Streams
    from saigen.training.build import build_model, build_task
    from saigen.training.evaluation import Evaluation
    from saigen.training.model_state import load_exported

    chosen = with_fitted(chosen, model.fitted, Path.cwd())
    streams = Streams(chosen.randomness.streams)
    weights = model.weights()
    task = build_task(chosen, streams)
    network = build_model(chosen, streams)
    load_exported(network, weights)
    evaluation = Evaluation(chosen, task, streams, purpose, arrays)
    return evaluation, network.to(torch.device(chosen.hardware.device))
