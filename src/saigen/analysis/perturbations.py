"""What must not matter: each perturbation, the claim that it tries to break, and how."""

from dataclasses import dataclass, field

from saigen.config.schema import Config


@dataclass(frozen=True)
class Perturbation:
    """One way to run the same recipe otherwise. Only the fields that are given differ."""

    name: str
    claim: str
    overrides: tuple[str, ...] = ()
    both: tuple[str, ...] = ()  # overrides of what it is compared with, too
    environment: dict[str, str] = field(default_factory=dict)
    perturb: tuple[str, ...] = ()  # of perturbed.py
    subfolder: str = ""  # the copy's folder, below the scratch folder
    killed: bool = False
    measured: bool = False  # evaluated again, in a process of its own
    times: bool = False  # file times reversed
    load: bool = False
    fact: bool = False  # reported, not claimed
    not_made: str = ""  # why the recipe makes no such claim; empty if it does


def perturbations(config: Config) -> tuple[Perturbation, ...]:
    """What must not matter for a recipe."""
    reproducibility, hardware, trainer = config.reproducibility, config.hardware, config.trainer
    # microbatches for two processes to share, where the recipe has one
    shares = [
        n for n in (4, 2, 3, 5, 7) if trainer.batch_size == "all" or trainer.batch_size % n == 0
    ]
    shared = [f"trainer.microbatches={n}" for n in shares if trainer.microbatches < 2]
    hash_seed = reproducibility.python_hash_seed
    not_shared = "" if reproducibility.reduction == "tree" else "processes count under allreduce"
    if trainer.microbatches < 2 and not shared:
        not_shared = "the batch cannot be shared evenly"
    return (
        Perturbation("rerun", "a fresh process gives the same bits"),
        Perturbation("draws", "random draws before the model is built do not matter",
                     perturb=("draws",)),
        Perturbation("hash-seed", "the interpreter's hash seed does not matter",
                     (f"reproducibility.python_hash_seed={hash_seed + 4242}",)),
        Perturbation("path", "the folder and the home do not matter",
                     subfolder="a longer path/with spaces/and ünïcode",
                     environment={"HOME": "/nonexistent", "TMPDIR": "/var/tmp"}),
        Perturbation("locale", "locale, time zone and terminal do not matter",
                     environment={"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0",
                                  "PYTHONUTF8": "0", "TZ": "Pacific/Kiritimati", "TERM": "dumb",
                                  "COLUMNS": "41"}),
        Perturbation("host", "the machine's name and the umask do not matter", perturb=("host",)),
        Perturbation("listing", "the order and the times of files do not matter",
                     perturb=("listing",), times=True),
        Perturbation("workers", "the number of loader workers does not matter",
                     (f"hardware.loader_workers={3 if hardware.loader_workers == 2 else 2}",)),
        Perturbation("kill", "being killed and resumed does not matter", killed=True),
        Perturbation("evaluation", "measured again in a fresh process, it gives the same numbers",
                     measured=True),
        Perturbation("processes", "the number of processes does not matter",
                     (f"hardware.processes={1 if hardware.processes == 2 else 2}",),
                     both=tuple(shared[:1]), not_made=not_shared),
        Perturbation("load", "other work on the machine does not matter", load=True),
        Perturbation("memory", "what stood in memory before does not matter",
                     environment={"MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc"},
                     not_made="" if hardware.device == "cpu" else "the model runs on a GPU"),
        Perturbation("threads", "another number of threads",
                     (f"hardware.intra_op_threads={hardware.intra_op_threads % 2 + 1}",),
                     fact=True),
        Perturbation("instruction-set", "another instruction set",
                     ("reproducibility.instruction_set=default",), fact=True,
                     not_made="" if reproducibility.instruction_set == "native"
                     else "the recipe pins it"),
    )  # fmt: skip
