"""Differences of values: config, environment, randomness, distribution, metadata."""

from collections.abc import Collection, Iterator
from functools import cache
from importlib import metadata
from typing import Any

from saigen.analysis import watched_differences as watched
from saigen.analysis.difference import (
    BITS,
    CONTINUED,
    EXPERIMENT,
    FROM_FORWARD,
    NOTHING,
    PHASES,
    Difference,
    Kind,
    Phase,
    changed,
    under,
)
from saigen.analysis.run import ABSENT, Run
from saigen.environment.numerics_probe import moved
from saigen.runs.record import is_watched

_SUMS: tuple[Phase, ...] = ("samples", *FROM_FORWARD)
# A layer, or one and the head of a key: what another value does, why, and where it shows first.
RULES: dict[str, tuple[Kind, str, tuple[Phase, ...]]] = {
    "config": (EXPERIMENT, "another value", ()),
    "config data": (EXPERIMENT, "other samples, or samples read otherwise",
                    ("samples", "forward", "selection", "evaluation")),
    "config data.order": (EXPERIMENT, "other samples at other steps", ("samples",)),
    "config data.name": (NOTHING, "only what the snapshot is called", ()),
    "config data.evaluation_dataset": (EXPERIMENT, "evaluated otherwise",
                                       ("selection", "evaluation")),
    "config prepare": (EXPERIMENT, "other arrays from the same snapshot", ("prepared",)),
    "config task": (EXPERIMENT, "another loss", (*FROM_FORWARD, "selection")),
    "config model": (EXPERIMENT, "another network", ("initial weights", *FROM_FORWARD)),
    "config model.dropout": (EXPERIMENT, "other units are dropped", FROM_FORWARD),
    "config optimizer": (EXPERIMENT, "weights move otherwise", ("weights",)),
    "config optimizer.foreach": (BITS, "another implementation of the same formula", ("weights",)),
    "config optimizer.fused": (BITS, "another implementation of the same formula", ("weights",)),
    "config scheduler": (EXPERIMENT, "another learning rate at each step", ("weights",)),
    "config trainer": (EXPERIMENT, "trained otherwise", _SUMS),
    "config trainer.max_epochs": (EXPERIMENT, "another length", ("weights", "selection")),
    "config trainer.max_steps": (EXPERIMENT, "another length", ("weights", "selection")),
    "config trainer.batch_size": (EXPERIMENT, "other batches", ("samples",)),
    "config trainer.max_grad_norm": (EXPERIMENT, "other gradients", ("gradients", "weights")),
    "config trainer.eval_batch_size": (BITS, "another shape of the same products",
                                                 ("selection", "evaluation")),
    "config trainer.microbatches": (BITS, "the same sum in another order", _SUMS),
    "config trainer.parameter_layout": (BITS, "the same sums over another layout",
                                        ("gradients", "weights")),
    "config trainer.precision": (EXPERIMENT, "another number format", FROM_FORWARD),
    "config trainer.validate_every_epochs": (EXPERIMENT, "other weights may be kept",
                                             ("selection",)),
    "config trainer.validate_every_steps": (EXPERIMENT, "other weights may be kept",
                                            ("selection",)),
    "config trainer.last_batch": (EXPERIMENT, "other batches", ("samples",)),
    "config trainer.stop_at_value": (EXPERIMENT, "another length", ("selection",)),
    "config trainer.loss_components": (NOTHING, "only what is written down", ()),
    "config trainer.monitor": (EXPERIMENT, "other weights may be kept", ("selection",)),
    "config trainer.monitor_mode": (EXPERIMENT, "other weights are kept", ("selection",)),
    "config trainer.keep_weights": (EXPERIMENT, "other weights are kept", ("selection",)),
    "config trainer.stop_after_validations": (EXPERIMENT, "another length", ("selection",)),
    "config randomness": (NOTHING, "every stream has a seed of its own, and those are compared",
                          ()),
    "config reproducibility": (BITS, "other kernels or another order of sums", FROM_FORWARD),
    "config reproducibility.name": (NOTHING, "only a name; its switches are compared", ()),
    "config hardware": (BITS, "other kernels or another order of sums",
                        ("initial weights", *FROM_FORWARD)),
    "config given": (EXPERIMENT, "another value", PHASES),
    "config arguments": (EXPERIMENT, "started with other words", PHASES),
    "surroundings": (NOTHING, "a circumstance: the run is defined without it", PHASES),
    "environment": (BITS, "another kernel, another order of sums, or another rounding", PHASES),
    "environment packages": (BITS, "a run imported it, or may have loaded a library of it", PHASES),
    "randomness": (EXPERIMENT, "other luck in this stream", PHASES),
    "randomness state": (EXPERIMENT, "another draw comes first", PHASES),
    "randomness scheme": (EXPERIMENT, "other numbers from the same seeds", PHASES),
    "randomness python_hash_seed": (BITS, "sets and hash() come out otherwise", PHASES),
    "randomness seeds.init": (EXPERIMENT, "other luck in this stream", ("initial weights",)),
    "randomness seeds.order": (EXPERIMENT, "other luck in this stream", ("samples",)),
    "randomness seeds.dropout": (EXPERIMENT, "other luck in this stream", FROM_FORWARD),
    "randomness seeds.augment": (EXPERIMENT, "other luck in this stream", FROM_FORWARD),
    "distribution": (BITS, "the same sum in another order", _SUMS),
    "metadata": (NOTHING, "where and how it was run; what of it can move bits is in the "
                      "layers", PHASES),
}  # fmt: skip
_CUDA_ONLY = ("reproducibility.cudnn_benchmark", "reproducibility.cudnn_deterministic",
              "reproducibility.allow_tf32", "reproducibility.cublas_workspace",
              "reproducibility.allow_reduced_precision_reduction")  # fmt: skip
# What repeats another difference: one cause, said once. A switch repeats the key of its name.
_THREADS, _HASH_SEED = "config hardware.intra_op_threads", "randomness python_hash_seed"
_REPEATS = {
    "environment switches.intra_op_threads": (_THREADS,),
    "environment switches.inter_op_threads": ("config hardware.inter_op_threads",),
    "environment variables.OMP_NUM_THREADS": (_THREADS,),
    "environment variables.MKL_NUM_THREADS": (_THREADS,),
    "environment variables.CUBLAS_WORKSPACE_CONFIG": ("config reproducibility.cublas_workspace",),
    "environment variables.ATEN_CPU_CAPABILITY": ("config reproducibility.instruction_set",),
    "environment variables.MKL_CBWR": ("config reproducibility.mkl_branch",),
    "environment variables.ONEDNN_MAX_CPU_ISA": ("config reproducibility.onednn_instruction_set",),
    "environment variables.PYTHONHASHSEED": (_HASH_SEED,),
    "environment switches.python_hash_seed": (_HASH_SEED,),
    "environment switches.hash_randomization": (_HASH_SEED,),
    "environment gpu": ("config hardware.device",),
    "environment cpu_vendor": ("config reproducibility.name",),
    "randomness state.torch": ("randomness seeds.torch",),
    "distribution reduction": ("config reproducibility.reduction",),
    "distribution microbatches": ("config trainer.microbatches",),
    "distribution microbatch_examples": ("config trainer.batch_size",
                                         "config trainer.microbatches"),
}  # fmt: skip
# A circumstance, and the claim of `saigen verify` that it does not matter. Folder and host are not
# among them: they nearly always differ, and code that draws from the clock is likelier.
_CLAIMS = {CONTINUED: "kill", "hardware.processes": "processes",
           "hardware.loader_workers": "workers"}  # fmt: skip
# Loaded as libraries by others, without being imported.
_LIBRARIES = ("nvidia", "cuda", "mkl", "intel", "openblas", "tbb", "triton", "rocm")


def values(a: Run, b: Run) -> list[Difference]:
    """Every value that differs, by full key. What the canary found stands with the first difference
    that can have moved it.
    """
    found: list[Difference] = []
    if is_watched(a.record):
        found += watched.generators(a, b)
    for (head, left), (_, right) in zip(_trees(a), _trees(b), strict=True):
        layer = "config" if head == "surroundings" else head
        for key, old, new in changed(left, right):
            kind, reason, shows = RULES[under(f"{head} {key}", RULES) or head]
            if nothing := _nothing(a, b, key):
                kind, reason = NOTHING, nothing
            claim = _CLAIMS.get(key) if kind == NOTHING else None
            found.append(Difference(
                layer=layer, name=key, a=old, b=new, kind=kind, reason=reason, shows=list(shows),
                claim=claim,
            ))  # fmt: skip
    titles = {one.title for one in found}
    found = [one.model_copy(update={"follows": _follows(one, titles)}) for one in found]
    if words := moved(a.layer("environment"), b.layer("environment")):
        own = [n for n, one in enumerate(found) if one.layer == "environment" and one.counts]
        if not own:
            follows = next(
                (d.follows for d in found if d.layer == "environment" and d.follows), None
            )
            found.append(Difference(
                layer="environment", name="canary", a="the operations' digests", b="others",
                kind=BITS, reason="operations give other bits on this machine", follows=follows,
            ))  # fmt: skip
        number = own[0] if own else -1
        details = [f"the canary's {words}"]
        found[number] = found[number].model_copy(update={"details": details})
    return found


def _trees(run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is compared, by layer: of the config what has no layer of its own, and its metadata
    (`surroundings`).
    """
    around, config = run.record["metadata"], run.config
    apart = {"reproducibility": "python_hash_seed", "randomness": "streams"}
    configs = {part: {k: v for k, v in config[part].items() if k != key}
            for part, key in apart.items() if part in config}  # fmt: skip
    # the command line last: what it set is told first
    yield "config", dict(sorted(config.items(), key=lambda p: p[0] == "arguments")) | configs
    yield "surroundings", around.get("config", {})
    yield "environment", run.content_of("environment") | {"canary": None}
    yield "randomness", run.content_of("randomness")
    yield "distribution", run.content_of("distribution")
    # the step at which it was taken up again for the last time, if it was
    steps = (around.get("training") or {}).get("steps")
    total = (run.outcome["trace"] or {}).get("steps")
    continued = ABSENT if steps is None or total in (None, steps) else int(total) - int(steps)
    parts = ("machine", "git", "folder", "arguments", "surroundings", "dvc", "drift")
    yield "metadata", {CONTINUED: continued} | {part: around.get(part) for part in parts}


def _nothing(a: Run, b: Run, key: str) -> str | None:
    """Why another value cannot change anything in these two runs; None if it can."""
    devices = {run.config.get("hardware", {}).get("device") for run in (a, b)}
    if key in _CUDA_ONLY and "cuda" not in devices:
        return "neither run used a CUDA device"
    if key.startswith("packages.") and not _felt(key.removeprefix("packages."), a, b):
        return "neither run imported it"
    packages = [run.layer("environment").get("packages") for run in (a, b)]
    if key.startswith("lock.") and packages[0] == packages[1]:
        return "the packages that are installed are equal"
    return None


def _follows(found: Difference, titles: Collection[str]) -> str | None:
    """Which of the differences that there are a difference comes from."""
    if found.layer == "environment" and found.name.startswith("lock."):
        return "the packages" if found.kind != NOTHING else None
    switch = f"config reproducibility.{found.name.removeprefix('switches.')}"
    default = (switch,) if found.layer == "environment" else ()
    sources = _REPEATS.get(under(found.title, _REPEATS), default)
    return next((source for source in sources if source in titles), None)


def _felt(package: str, a: Run, b: Run) -> bool:
    """Whether a run may have felt a package; False only if it is known that none imported it."""
    imported = a.imported("packages") | b.imported("packages")
    if not imported or package.startswith(_LIBRARIES):
        return True
    names = [name for name, owners in _owners().items() if package in owners]
    return not names or any(name in imported for name in names)


@cache
def _owners() -> dict[str, list[str]]:
    """The packages here that provide each importable name."""
    return {
        name: [owner.lower().replace("_", "-") for owner in owners]
        for name, owners in metadata.packages_distributions().items()
    }
