"""What must not matter: each perturbation, the claim that it tries to break, and how."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saigen.config.schema import Config
from saigen.documents import is_inside
from saigen.observing.observed import ABSENT

INPUTS = "inputs"  # the perturbation in whose place come those of what was observed
# Answers of the machine, and what of child.py gives another one.
_ANSWERS = {
    "time.": "clock", "os.cpu_count": "processors", "os.process_cpu": "processors",
    "os.sched_getaff": "processors", "os.sysconf": "processors", "os.getlogin": "user",
    "os.getuid": "user", "os.geteuid": "user", "pwd.": "user", "os.get_terminal": "terminal",
    "os.uname": "host", "socket.": "host", "platform.": "host", "resource.": "limits",
}  # fmt: skip
_OPPOSITES = {"true": "false", "yes": "no", "on": "off", "0": "1"}
_OPPOSITES |= {no: yes for yes, no in _OPPOSITES.items()}


@dataclass(frozen=True)
class Perturbation:
    """One way to run the same recipe otherwise. Only the fields that are given differ."""

    name: str
    claim: str
    overrides: tuple[str, ...] = ()
    both: tuple[str, ...] = ()  # overrides of what it is compared with, too
    environment: Mapping[str, str] = field(default_factory=dict)
    perturb: tuple[str, ...] = ()  # of perturbed.py
    subfolder: str = ""  # the copy's folder, below the scratch folder
    killed: bool = False
    measured: bool = False  # evaluated again, in a process of its own
    times: bool = False  # file times reversed
    load: bool = False
    fact: bool = False  # reported, not claimed
    without: str = ""  # a file or folder of the project that is not there
    not_made: str = ""  # why the recipe makes no such claim; empty if it does
    not_tried: str = ""  # why it cannot be tried
    held: str = ""  # why it holds without a trial
    asked: str = ""  # the line of the project that takes in what is perturbed


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
        Perturbation("locale", "locale, time zone, clock and terminal do not matter",
                     perturb=("clock",),
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
        Perturbation(INPUTS, "what the project takes in and does not declare does not matter",
                     held="nothing was observed"),
        Perturbation("threads", "another number of threads",
                     (f"hardware.intra_op_threads={hardware.intra_op_threads % 2 + 1}",),
                     fact=True),
        Perturbation("instruction-set", "another instruction set",
                     ("reproducibility.instruction_set=default",), fact=True,
                     not_made="" if reproducibility.instruction_set == "native"
                     else "the recipe pins it"),
    )  # fmt: skip


def of_inputs(observed: Iterable[Mapping[str, Any]]) -> list[Perturbation]:
    """What gives another value of each thing that a training took in undeclared; what answers
    otherwise at every call has answered otherwise in each trial already.
    """
    found: dict[str, Perturbation] = {}
    for entry in observed:
        kind, name, value = str(entry["kind"]), str(entry["name"]), str(entry["value"])
        title = name if kind == "answer" else f"{kind} {name}"
        plain = Perturbation(
            f"{INPUTS}: {title}", f"{title} does not matter", asked=entry["line"] or ""
        )
        if kind == "variable" and name.startswith("PYTHON"):
            continue  # of the interpreter that the trial itself starts
        if kind == "variable":
            plain = replace(plain, environment={name: _another(value)})
        elif kind == "answer":
            perturbed = next((p for head, p in _ANSWERS.items() if name.startswith(head)), None)
            plain = replace(plain, perturb=(perturbed,)) if perturbed else replace(
                plain, not_tried="nothing here gives another one")  # fmt: skip
        elif kind in ("program", "connection"):
            plain = replace(plain, not_tried="nobody knows what it told")
        elif value == ABSENT:
            plain = replace(plain, not_tried="it is not there")
        elif name.startswith("~/"):
            plain = replace(plain, environment={"HOME": "/nonexistent"})
        elif is_inside(name.rstrip("/")):
            plain = replace(plain, without=name)
        else:
            plain = replace(plain, not_tried="a file out of the project is left as it is")
        found.setdefault(plain.name, plain)
    return list(found.values())


def _another(value: str) -> str:
    """Another value of a variable, of the same kind."""
    if value == ABSENT:
        return "1"
    if other := _OPPOSITES.get(value.casefold()):
        return other
    try:
        return str(int(value) + 1)
    except ValueError:
        pass
    try:
        return str(2 * float(value) + 1)
    except ValueError:
        return f"{value}-other"
