"""This machine against the pins: what differs, which claims can be kept here, and the mends."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from saigen.analysis.system_info import Here
from saigen.documents import Document
from saigen.environment.lock import mend

# The wheels of docker/lock-cuda.txt are built for CUDA 13, which needs this driver (NVIDIA's
# CUDA compatibility table).
DRIVER = 580
_LEAST_BYTES = 2 << 30  # an environment is 1 GB; runs and the cache want some, too
_GIGABYTE = 1e9
_NAMES = {"free_bytes": "disk free"}


class Mismatch(Document):
    """One thing that is not as it is pinned."""

    what: str
    here: str
    pinned: str
    mend: str


class Capability(Document):
    """A claim, and whether it can be kept on this machine."""

    claim: Literal["exact", "portable", "statistical", "processes", "cuda", "rerun"]
    says: str
    possible: bool
    why: list[str] = Field(description="what is in the way; empty if nothing is")
    mend: list[str] = Field(description="one for each")


class Diagnosis(Document):
    """The document of `saigen doctor --json`."""

    schema_: Literal["saigen-doctor-1"] = Field(
        default="saigen-doctor-1", serialization_alias="schema"
    )
    here: Here
    mismatches: list[Mismatch] = Field(description="what differs from the pins")
    capabilities: list[Capability]

    @property
    def sound(self) -> bool:
        """Whether every claim can be kept here."""
        return all(capability.possible for capability in self.capabilities)


def diagnose(here: Here, root: Path) -> Diagnosis:
    """Compare what was found with the pins of the project in `root`."""
    return Diagnosis(
        here=here,
        mismatches=list(_mismatches(here, root)),
        capabilities=list(_capabilities(here)),
    )


def _mismatches(here: Here, root: Path) -> Iterator[Mismatch]:
    file = root / "Dockerfile"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    pins = dict(re.findall(r"^ARG (\w+)=([^\s@]+)", text, re.MULTILINE))
    outside = here.container == "none"
    image = "make in-container T=train trains in the image" if outside else "make image"
    if outside:
        base = pins.get("CUDA_BASE" if here.cuda else "CPU_BASE", "nothing")
        yield Mismatch(what="system", here=here.system, pinned=base, mend=image)
    python = pins.get("PYTHON_VERSION", here.python)
    if python != here.python:
        yield Mismatch(what="python", here=here.python, pinned=python, mend=image)
    for line in here.drift:
        yield Mismatch(what="environment", here=line, pinned=here.lock, mend=mend())


def _capabilities(here: Here) -> Iterator[Capability]:
    free = f"{_gigabytes(here)} are free"
    remote = f" {here.remote}" if here.remote else ""
    torch, gpu = bool(here.torch), bool(here.gpu)
    driver = int(here.driver.partition(".")[0] or 0)
    # What may be in the way: whether it is, in words, and the mend.
    ills = {
        "platform": (here.architecture != "Linux x86_64",
                     f"the locks are for Linux x86_64, this is {here.architecture}",
                     "make in-container T=train, on such a machine"),
        "torch": (not torch, f"torch cannot be imported: {here.torch_problem}", mend()),
        "lock": (bool(here.drift), "the environment is not the one that is locked", mend()),
        "disk": (here.free_bytes < _LEAST_BYTES, free,
                 "make clean, dvc gc --workspace, or another disk"),
        "avx2": ("avx2" not in here.processor_flags, "the processor has no AVX2",
                 "another machine: no setting gives it that"),
        "mkl": (torch and not here.mkl, "this torch has no MKL that tells its branch", mend()),
        "gloo": (torch and not here.gloo, "no Gloo, or no loopback interface `lo`",
                 "give the container a network namespace with `lo`, or another build of torch"),
        "gpu": (not gpu, "nvidia-smi finds no GPU", "a machine with one, and its driver"),
        "driver": (gpu and driver < DRIVER, f"its driver is {here.driver}",
                   f"a driver of the {DRIVER} line or newer"),
        "build": (torch and not here.cuda, "this torch is built without CUDA",
                  "make .venv VARIANT=cuda" if here.container == "none"
                  else "VARIANT=cuda make image"),
        "cuda": (gpu and here.cuda and not here.cuda_usable, "torch cannot use the GPU",
                 "see what `python -c 'import torch; torch.zeros(1).cuda()'` says"),
        "git": (not here.commit, here.git_problem or "there is no commit yet",
                'git config --global --add safe.directory "$PWD"'
                if "dubious ownership" in here.git_problem else "git init, and commit"),
        "remote": (here.remote_problem,
                   f"the snapshot cannot be had from DVC's remote{remote}: {here.remote_problem}",
                   "dvc push, or `dvc remote add --default NAME URL`"),
    }  # fmt: skip
    for claim, says, needs in (
        ("exact", "bit for bit on this kind of processor", "platform torch lock disk"),
        ("portable", "bit for bit on x86-64 processors of every maker",
         "platform torch lock disk avx2 mkl"),
        ("statistical", "the same distribution over seeds", "torch disk"),
        ("processes", "several processes on this machine share a run", "torch gloo"),
        ("cuda", "training on a GPU", "torch gpu driver build cuda"),
        ("rerun", "anybody can make a run of today again", "git remote disk"),
    ):  # fmt: skip
        found = [ills[need] for need in needs.split() if ills[need][0]]
        why, mends = [ill[1] for ill in found], [ill[2] for ill in found]
        values = {"claim": claim, "says": says, "possible": not found, "why": why, "mend": mends}
        yield Capability.model_validate(values)


def diagnosis_text(found: Diagnosis) -> str:
    """A diagnosis, for a person."""
    lines = []
    for name, value in (found.here.model_dump() | {"free_bytes": _gigabytes(found.here)}).items():
        text = " ".join(value) if isinstance(value, list) else _word(value)
        lines += [f"{_NAMES.get(name, name.replace('_', ' ')):<17}{text}"] if text else []
    lines += ["", "differs from the pins" if found.mismatches else "as pinned"]
    for mismatch in found.mismatches:
        lines += [
            f"  {mismatch.what}: {mismatch.here}; pinned: {mismatch.pinned}",
            f"    mend: {mismatch.mend}",
        ]
    lines += ["", "can be kept here"]
    for capability in found.capabilities:
        answer = "yes" if capability.possible else "NO"
        lines.append(f"  {answer:<4}{capability.claim:<12}{capability.says}")
        for why, mends in zip(capability.why, capability.mend, strict=True):
            lines += [f"        {why}", f"        mend: {mends}"]
    return "\n".join(lines)


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _gigabytes(here: Here) -> str:
    return f"{here.free_bytes / _GIGABYTE:.1f} GB"
