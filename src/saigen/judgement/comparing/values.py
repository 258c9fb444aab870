"""Differences of values: config, randomness, distribution, circumstances."""

from collections.abc import Iterator, Mapping
from typing import Any

from saigen.judgement.comparing.difference import (
    ABSENT,
    BITS,
    CONTINUED,
    EXPERIMENT,
    FROM_FORWARD,
    NOTHING,
    PLACES,
    Difference,
    Kind,
    Place,
    changed,
    under,
)
from saigen.judgement.run import Run

# Full key or the head of one: what another value does, why, and where it shows first.
_KEYS: dict[str, tuple[Kind, str, tuple[Place, ...]]] = {
    "data": (EXPERIMENT, "other samples, or samples read otherwise", ("samples", "forward")),
    "data.name": (NOTHING, "only what the snapshot is called", ()),
    "data.evaluation_dataset": (EXPERIMENT, "evaluated otherwise", ("selection", "evaluation")),
    "prepare": (EXPERIMENT, "other arrays from the same snapshot", ("prepared",)),
    "task": (EXPERIMENT, "another loss", FROM_FORWARD),
    "model": (EXPERIMENT, "another network", ("initial weights", *FROM_FORWARD)),
    "model.dropout": (EXPERIMENT, "other units are dropped", FROM_FORWARD),
    "optimizer": (EXPERIMENT, "weights move otherwise", ("weights",)),
    "optimizer.foreach": (BITS, "another implementation of the same formula", ("weights",)),
    "optimizer.fused": (BITS, "another implementation of the same formula", ("weights",)),
    "scheduler": (EXPERIMENT, "another learning rate at each step", ("weights",)),
    "trainer": (EXPERIMENT, "trained otherwise", ("samples", *FROM_FORWARD)),
    "trainer.max_epochs": (EXPERIMENT, "another length", ("weights", "selection")),
    "trainer.max_steps": (EXPERIMENT, "another length", ("weights", "selection")),
    "trainer.batch_examples": (EXPERIMENT, "other batches", ("samples",)),
    "trainer.clip_gradient_norm": (EXPERIMENT, "other gradients", ("gradients", "weights")),
    "trainer.evaluation_batch_examples": (BITS, "another shape of the same products",
                                          ("selection", "evaluation")),
    "trainer.microbatches": (BITS, "the same sum in another order", ("samples", *FROM_FORWARD)),
    "trainer.parameter_layout": (BITS, "the same sums over another layout",
                                 ("gradients", "weights")),
    "trainer.precision": (EXPERIMENT, "another number format", FROM_FORWARD),
    "trainer.validate_every_epochs": (EXPERIMENT, "other weights may be kept", ("selection",)),
    "trainer.monitor": (EXPERIMENT, "other weights may be kept", ("selection",)),
    "trainer.monitor_mode": (EXPERIMENT, "other weights are kept", ("selection",)),
    "trainer.keep_weights": (EXPERIMENT, "other weights are kept", ("selection",)),
    "trainer.stop_after_validations": (EXPERIMENT, "another length", ("selection",)),
    "agreement": (BITS, "other kernels or another order of sums", FROM_FORWARD),
    "agreement.name": (NOTHING, "only a name; the switches it stands for are compared", ()),
    "hardware": (BITS, "other kernels or another order of sums",
                 ("initial weights", *FROM_FORWARD)),
}  # fmt: skip
_CUDA_ONLY = ("agreement.cudnn_benchmark", "agreement.cudnn_deterministic",
              "agreement.allow_tf32", "agreement.cublas_workspace",
              "agreement.allow_reduced_precision_reduction")  # fmt: skip
# Said in a layer of their own.
_ELSEWHERE = ("randomness", "agreement.python_hash_seed")
_STREAMS: dict[str, tuple[Place, ...]] = {
    "init": ("initial weights",),
    "order": ("samples",),
    "dropout": FROM_FORWARD,
    "augment": FROM_FORWARD,
}
# A circumstance, and the claim of `saigen verify` that it does not matter. Folder and host are not
# among them: they nearly always differ, and code that draws from the clock is likelier.
_CLAIMS = {
    CONTINUED: "kill",
    "hardware.processes": "processes",
    "hardware.loader_workers": "workers",
}


def config(a: Run, b: Run) -> Iterator[Difference]:
    """Every key whose value differs, those that are circumstances included."""
    on_cuda = "cuda" in (a.config["hardware"]["device"], b.config["hardware"]["device"])
    for key, old, new in changed(a.config, b.config):
        if under(key, dict.fromkeys(_ELSEWHERE)):
            continue
        head = under(key, _KEYS)
        kind, reason, shows = _KEYS[head] if head else (EXPERIMENT, "another value", ())
        if key in _CUDA_ONLY and not on_cuda:
            kind, reason = NOTHING, "neither run used a CUDA device"
        yield Difference(
            layer="config", name=key, a=old, b=new, kind=kind, reason=reason, shows=list(shows)
        )
    circumstances = (run.record["circumstances"].get("config", {}) for run in (a, b))
    for key, old, new in changed(*circumstances):
        yield Difference(
            layer="config", name=key, a=old, b=new, kind=NOTHING,
            reason="a circumstance: the run is defined without it", claim=_CLAIMS.get(key),
        )  # fmt: skip


def randomness(a: Run, b: Run) -> Iterator[Difference]:
    """Seeds by stream, the scheme, the interpreter's hash seed."""
    for key, old, new in changed(_content(a, "randomness"), _content(b, "randomness")):
        stream = key.removeprefix("seeds.")
        kind: Kind = EXPERIMENT
        shows: tuple[Place, ...] = ()
        if key == "python_hash_seed":
            kind, reason = BITS, "sets and hash() come out otherwise"
        elif key == "scheme":
            reason = "other numbers from the same seeds"
        else:
            reason = f"other luck in the stream {stream!r}"
            shows = _STREAMS.get(stream, ())
        yield Difference(
            layer="randomness", name=key, a=old, b=new, kind=kind, reason=reason,
            shows=list(shows or PLACES),
        )  # fmt: skip
    seeds = [run.config["randomness"].get("seed") for run in (a, b)]
    if seeds[0] != seeds[1] and a.layer("randomness")["digest"] == b.layer("randomness")["digest"]:
        yield Difference(
            layer="randomness", name="seed", a=seeds[0], b=seeds[1], kind=NOTHING,
            reason="every stream has a seed of its own, and those are equal", shows=[],
        )  # fmt: skip


def distribution(a: Run, b: Run, config_keys: Mapping[str, Any]) -> Iterator[Difference]:
    """How the sum behind one update is split."""
    comes_from = {
        "reduction": "agreement.reduction",
        "microbatches": "trainer.microbatches",
        "microbatch_examples": "trainer.batch_examples",
        "processes": "hardware.processes",
    }
    for key, old, new in changed(_content(a, "distribution"), _content(b, "distribution")):
        source = comes_from.get(key, "")
        if key == "microbatch_examples" and source not in config_keys:
            source = "trainer.microbatches"
        if key == "processes" and source not in config_keys:
            source = "agreement.reduction"
        yield Difference(
            layer="distribution", name=key, a=old, b=new, kind=BITS,
            reason="the same sum in another order",
            follows=f"config {source}" if source in config_keys and key != "processes" else None,
            shows=["samples", *FROM_FORWARD],
        )  # fmt: skip


def circumstances(a: Run, b: Run) -> Iterator[Difference]:
    """What surrounded the runs: recorded, and of no effect unless something is wrong."""
    parts = ("machine", "git", "folder", "arguments", "surroundings", "dvc", "drift")
    left, right = ({CONTINUED: _continued(r)} | {p: r.record["circumstances"].get(p) for p in parts}
                   for r in (a, b))  # fmt: skip
    for key, old, new in changed(left, right):
        yield Difference(
            layer="circumstances", name=key, a=old, b=new, kind=NOTHING, claim=_CLAIMS.get(key),
            reason="where and how it was run; what of it can move bits is in the layers",
        )  # fmt: skip


def _continued(run: Run) -> int | str:
    """The step at which a run was taken up again for the last time; ABSENT if it never was."""
    steps = run.record["circumstances"].get("training", {}).get("steps")
    total = (run.outcome["trace"] or {}).get("steps")
    return ABSENT if steps is None or total in (None, steps) else int(total) - int(steps)


def _content(run: Run, layer: str) -> dict[str, Any]:
    return {key: value for key, value in run.layer(layer).items() if key != "digest"}
