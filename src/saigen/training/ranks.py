"""What a launcher (torchrun, or ours) tells a process through its environment, checked by name."""

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from saigen.errors import Refusal

if TYPE_CHECKING:
    from saigen.config.compose import Composition

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
BESIDE = "LOCAL_WORLD_SIZE"  # how many run on this machine; not every launcher tells
RENDEZVOUS = "SAIGEN_RENDEZVOUS"  # of our own launcher: a file in place of an address


@dataclass(frozen=True)
class Launched:
    """A process's number among those of a run, and on its machine."""

    rank: int
    world: int
    local_rank: int
    beside: int | None  # how many run on this machine, this one among them, where that is told


def is_rank() -> bool:
    """Whether this process was started as one of several, by us or by torchrun."""
    return any(name in os.environ for name in _NAMES)


def launched() -> Launched:
    """The variables of a launcher. Raises Refusal on one that is missing or cannot be."""
    values = {name: _number(name) for name in _NAMES}
    beside = _number(BESIDE) if BESIDE in os.environ else None
    found = Launched(values["RANK"], values["WORLD_SIZE"], values["LOCAL_RANK"], beside)
    if found.world < 1:
        raise _refusal("WORLD_SIZE", "at least 1", str(found.world))
    for name in ("RANK", "LOCAL_RANK"):
        if values[name] >= found.world:
            raise _refusal(name, f"0 to WORLD_SIZE - 1 = {found.world - 1}", str(values[name]))
    if found.world > 1 and RENDEZVOUS not in os.environ:
        for name in _ADDRESS:
            if not os.environ.get(name):
                raise _refusal(name, "where rank 0 listens", os.environ.get(name, "nothing"))
        if not 1 <= (port := _number("MASTER_PORT")) < 1 << 16:
            raise _refusal("MASTER_PORT", "1 to 65535", str(port))
    return found


def as_launched(composition: "Composition") -> "Composition":
    """The config with the number of processes that really run. Raises Refusal where they are not
    the config's, or more than there are microbatches.
    """
    hardware, microbatches = composition.config.hardware, composition.config.trainer.microbatches
    processes = launched().world if is_rank() else hardware.processes
    if hardware.processes not in (1, processes):
        raise Refusal(
            "the launcher starts another number of processes than the config says",
            where="hardware.processes (WORLD_SIZE)",
            expected=f"hardware.processes={processes}, as WORLD_SIZE, or 1",
            got=str(hardware.processes),
            fix=f"hardware.processes=1, or `torchrun --nproc-per-node {hardware.processes}`",
        )
    if processes > microbatches:
        raise Refusal(
            "there are more processes than microbatches to share",
            where="hardware.processes" + (" (WORLD_SIZE)" if is_rank() else ""),
            expected=f"at most trainer.microbatches={microbatches}",
            got=str(processes),
            fix=f"start {microbatches}, or set a larger trainer.microbatches (which is another "
            "recipe)",
        )
    values = {**composition.values, "hardware": {**composition.values["hardware"]}}
    values["hardware"]["processes"] = processes
    config = composition.config.model_copy(
        update={"hardware": hardware.model_copy(update={"processes": processes})}
    )
    return replace(composition, values=values, config=config)


def _number(name: str) -> int:
    text = os.environ.get(name)
    if text is None or not re.fullmatch("[0-9]{1,9}", text):
        raise _refusal(name, "a whole number", "nothing" if text is None else repr(text))
    return int(text)


def _refusal(name: str, expected: str, got: str) -> Refusal:
    return Refusal(
        f"the launcher's {name} cannot be",
        where=f"{name} (environment)",
        expected=expected,
        got=got,
        fix=f"start with torchrun or hardware.processes, or `unset {' '.join(_NAMES)}` to train "
        "in one process",
    )
