"""Differences of the environment: packages, switches, libraries, and which operations moved."""

from collections.abc import Collection, Iterator
from functools import cache
from importlib import metadata
from typing import Any

from saigen.judgement.comparing.difference import BITS, NOTHING, Difference, Kind, changed
from saigen.judgement.run import Run
from saigen.recipe.canary import moved

# A switch or variable that repeats a config key: one cause, said once.
_FROM_CONFIG = {
    "switches.intra_op_threads": "hardware.intra_op_threads",
    "switches.inter_op_threads": "hardware.inter_op_threads",
    "variables.OMP_NUM_THREADS": "hardware.intra_op_threads",
    "variables.MKL_NUM_THREADS": "hardware.intra_op_threads",
    "variables.CUBLAS_WORKSPACE_CONFIG": "agreement.cublas_workspace",
    "variables.ATEN_CPU_CAPABILITY": "agreement.instruction_set",
    "variables.MKL_CBWR": "agreement.mkl_branch",
    "variables.ONEDNN_MAX_CPU_ISA": "agreement.onednn_instruction_set",
    "variables.PYTHONHASHSEED": "python_hash_seed",
    "switches.python_hash_seed": "python_hash_seed",
    "switches.hash_randomization": "python_hash_seed",
    "gpu": "hardware.device",
    "cpu_vendor": "agreement.name",
}
# Loaded as libraries by others, without being imported.
_LIBRARIES = ("nvidia", "cuda", "mkl", "intel", "openblas", "tbb", "triton", "rocm")


def environment(a: Run, b: Run, other_keys: Collection[str]) -> Iterator[Difference]:
    """Packages, lock, interpreter, libraries, switches, and the canary's operations.

    `other_keys` are the config keys and seeds that differ: a switch that such a key sets follows
    from it.
    """
    left, right = (_content(run) for run in (a, b))
    words = moved(left, right)
    canary = [f"the canary's {words}"] if words else []
    source_of_canary = None
    for side in (left, right):
        side.pop("canary", None)
    felt = _imported(a) | _imported(b)
    packages = left.get("packages") != right.get("packages")
    for key, old, new in changed(left, right):
        source = next((f for head, f in _FROM_CONFIG.items() if _at(key, head)), None)
        source = source or f"agreement.{key.removeprefix('switches.')}"
        follows = f"config {source}" if source in other_keys else None
        kind: Kind = BITS
        reason = "another kernel, another order of sums, or another rounding"
        if key.startswith("packages."):
            if _felt(key.removeprefix("packages."), felt):
                reason = "a run imported it, or may have loaded a library of it"
            else:
                kind, reason = NOTHING, "neither run imported it"
        elif key.startswith("lock.") and not packages:
            kind, reason = NOTHING, "the packages that are installed are equal"
        elif key.startswith("lock."):
            follows = "the packages"
        yield Difference(
            layer="environment", name=key, a=old, b=new, kind=kind, reason=reason, follows=follows,
            details=canary if kind == BITS and not follows else [],
        )  # fmt: skip
        if kind == BITS and not follows:
            canary = []
        source_of_canary = source_of_canary or follows
    if canary:
        yield Difference(
            layer="environment", name="canary", a="the operations' digests", b="others", kind=BITS,
            reason="operations give other bits on this machine", details=canary,
            follows=source_of_canary,
        )  # fmt: skip


def _content(run: Run) -> dict[str, Any]:
    return {key: value for key, value in run.layer("environment").items() if key != "digest"}


def _imported(run: Run) -> set[str]:
    return set(run.record["circumstances"].get("imported", {}).get("packages", ()))


def _felt(package: str, imported: Collection[str]) -> bool:
    """Whether a run may have felt a package; False only if it is known that none imported it."""
    if not imported or package.startswith(_LIBRARIES):
        return True
    names = [n for n, owners in _owners().items() if package in owners]
    return not names or any(name in imported for name in names)


@cache
def _owners() -> dict[str, list[str]]:
    """The packages here that provide each importable name."""
    return {
        name: [owner.lower().replace("_", "-") for owner in owners]
        for name, owners in metadata.packages_distributions().items()
    }


def _at(key: str, head: str) -> bool:
    return key == head or key.startswith(head + ".")
