"""What must not matter: each perturbation, the claim that it tries to break, and how."""

from collections.abc import Callable
from dataclasses import dataclass, field

from saigen.recipe.schema import Config


@dataclass(frozen=True)
class Perturbation:
    """One way to run the same recipe otherwise. Only the fields that are given differ."""

    name: str
    claim: str
    overrides: Callable[[Config], tuple[str, ...]] = lambda config: ()  # noqa: ARG005
    both: Callable[[Config], tuple[str, ...]] = lambda config: ()  # noqa: ARG005  # sides alike
    environment: dict[str, str] = field(default_factory=dict)
    perturb: tuple[str, ...] = ()  # of perturbed.py
    place: str = ""  # the copy's folder, below the scratch folder
    killed: bool = False
    times: bool = False  # file times reversed
    load: bool = False
    fact: bool = False  # reported, not claimed
    not_tried: Callable[[Config], str | None] = lambda config: None  # noqa: ARG005


def _other(value: int, first: int, second: int) -> int:
    return first if value != first else second


def _shared(config: Config) -> tuple[str, ...]:
    """Microbatches for two processes to share, where the recipe has one."""
    if config.trainer.microbatches > 1:
        return ()
    shares = (n for n in (4, 2, 3, 5, 7) if config.trainer.batch_examples % n == 0)
    return tuple(f"trainer.microbatches={n}" for n in shares)[:1]


def _not_shared(config: Config) -> str | None:
    if config.trainer.microbatches < 2 and not _shared(config):
        return "the batch cannot be shared evenly"
    return "processes count under allreduce" if config.agreement.reduction != "tree" else None


def _pinned(config: Config) -> str | None:
    return None if config.agreement.instruction_set == "native" else "the recipe pins it"


def _not_on_cpu(config: Config) -> str | None:
    return None if config.hardware.device == "cpu" else "the model runs on a GPU"


PERTURBATIONS = (
    Perturbation("rerun", "a fresh process gives the same bits"),
    Perturbation(
        "draws", "random draws before the model is built do not matter", perturb=("draws",)
    ),
    Perturbation(
        "hash-seed",
        "the interpreter's hash seed does not matter",
        overrides=lambda c: (f"agreement.python_hash_seed={c.agreement.python_hash_seed + 4242}",),
    ),
    Perturbation(
        "path",
        "the folder and the home do not matter",
        place="a longer path/with spaces/and ünïcode",
        environment={"HOME": "/nonexistent", "TMPDIR": "/var/tmp"},
    ),
    Perturbation(
        "locale",
        "locale, time zone and terminal do not matter",
        environment={"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0",
                     "TZ": "Pacific/Kiritimati", "TERM": "dumb", "COLUMNS": "41"},
    ),
    Perturbation("host", "the machine's name and the umask do not matter", perturb=("host",)),
    Perturbation(
        "listing", "the order and the times of files do not matter", perturb=("listing",),
        times=True,
    ),
    Perturbation(
        "workers",
        "the number of loader workers does not matter",
        overrides=lambda c: (f"hardware.loader_workers={_other(c.hardware.loader_workers, 2, 3)}",),
    ),
    Perturbation("kill", "being killed and resumed does not matter", killed=True),
    Perturbation(
        "processes",
        "the number of processes does not matter",
        overrides=lambda c: (f"hardware.processes={_other(c.hardware.processes, 2, 1)}",),
        both=_shared,
        not_tried=_not_shared,
    ),
    Perturbation("load", "other work on the machine does not matter", load=True),
    Perturbation(
        "memory",
        "what stood in memory before does not matter",
        environment={"MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc"},
        not_tried=_not_on_cpu,
    ),
    Perturbation(
        "threads",
        "another number of threads",
        overrides=lambda c: (f"hardware.intra_op_threads={c.hardware.intra_op_threads % 2 + 1}",),
        fact=True,
    ),
    Perturbation(
        "instruction-set",
        "another instruction set",
        overrides=lambda c: ("agreement.instruction_set=default",),  # noqa: ARG005
        fact=True,
        not_tried=_pinned,
    ),
)  # fmt: skip
