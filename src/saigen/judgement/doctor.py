"""This machine against the pins: what differs, which claims can be kept here, and the mends."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from saigen.judgement.here import Here
from saigen.recipe.lock import mend
from saigen.records.document import Document

# The wheels of docker/lock-cuda.txt are built for CUDA 13, which needs this driver (NVIDIA's
# CUDA compatibility table).
DRIVER = 580
_LEAST_BYTES = 2 << 30  # an environment is 1 GB; runs and the cache want some, too
_GIGABYTE = 1e9


class Gap(Document):
    """One thing that is not as it is pinned."""

    what: str
    here: str
    pinned: str
    mend: str


class Prospect(Document):
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
    gaps: list[Gap] = Field(description="what differs from the pins")
    prospects: list[Prospect]

    @property
    def sound(self) -> bool:
        """Whether every claim can be kept here."""
        return all(prospect.possible for prospect in self.prospects)


def diagnose(here: Here, root: Path) -> Diagnosis:
    """Compare what was found with the pins of the project in `root`."""
    return Diagnosis(here=here, gaps=list(_gaps(here, root)), prospects=list(_prospects(here)))


def _gaps(here: Here, root: Path) -> Iterator[Gap]:
    image = "make in-container T=train trains in the image"
    if here.container == "none":
        base = _pin(root, "CUDA_BASE" if here.cuda else "CPU_BASE").partition("@")[0]
        yield Gap(what="system", here=here.system, pinned=base or "nothing", mend=image)
    if (python := _pin(root, "PYTHON_VERSION")) and python != here.python:
        yield Gap(what="python", here=here.python, pinned=python, mend=image)
    for line in here.drift:
        yield Gap(what="environment", here=line, pinned=here.lock, mend=mend())


def _pin(root: Path, argument: str) -> str:
    """The value that the Dockerfile gives an argument."""
    try:
        text = (root / "Dockerfile").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^ARG {argument}=(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


_Ill = tuple[bool, str, str]  # whether it is so, what is in the way, and the mend


def _prospects(here: Here) -> Iterator[Prospect]:
    torch = (not here.torch, f"torch cannot be imported: {here.torch_problem}", mend())
    locked = (bool(here.drift), "the environment is not the one that is locked", mend())
    platform = (
        here.architecture != "Linux x86_64",
        f"the locks are for Linux x86_64, this is {here.architecture}",
        "make in-container T=train, on such a machine",
    )
    full = (
        here.free_bytes < _LEAST_BYTES,
        f"{here.free_bytes / _GIGABYTE:.1f} GB are free",
        "make clean, dvc gc --workspace, or another disk",
    )
    other = "another machine: no setting gives it that"
    yield _prospect("exact", "bit for bit on this kind of processor", platform, torch, locked, full)
    yield _prospect(
        "portable", "bit for bit on x86-64 processors of every maker", platform, torch, locked,
        full, ("avx2" not in here.processor_flags, "the processor has no AVX2", other),
        (bool(here.torch) and not here.mkl, "this torch has no MKL that tells its branch", mend()),
    )  # fmt: skip
    yield _prospect("statistical", "the same distribution over seeds", torch, full)
    yield _prospect(
        "processes", "several processes on this machine share a run", torch,
        (bool(here.torch) and not here.gloo, "no Gloo, or no loopback interface `lo`",
         "give the container a network namespace with `lo`, or another build of torch"),
    )  # fmt: skip
    yield _prospect(
        "cuda", "training on a GPU", torch,
        (not here.gpu, "nvidia-smi finds no GPU", "a machine with one, and its driver"),
        (bool(here.gpu) and _major(here.driver) < DRIVER, f"its driver is {here.driver}",
         f"a driver of the {DRIVER} line or newer"),
        (bool(here.torch) and not here.cuda, "this torch is built without CUDA",
         "make .venv VARIANT=cuda"),
        (bool(here.gpu and here.cuda) and not here.cuda_usable, "torch cannot use the GPU",
         "see what `python -c 'import torch; torch.zeros(1).cuda()'` says"),
    )  # fmt: skip
    yield _prospect(
        "rerun", "anybody can make a run of today again",
        (not here.commit, "the project is in no git repository", "git init, and commit"),
        (bool(here.remote_problem), f"the snapshot cannot be had from DVC's remote"
         f"{' ' + here.remote if here.remote else ''}: {here.remote_problem}",
         "dvc push, or `dvc remote add --default NAME URL`"),
        full,
    )  # fmt: skip


def _prospect(claim: str, says: str, *ills: _Ill) -> Prospect:
    found = [(why, mends) for so, why, mends in ills if so]
    return Prospect.model_validate(
        {
            "claim": claim,
            "says": says,
            "possible": not found,
            "why": [why for why, _ in found],
            "mend": [mends for _, mends in found],
        }
    )


def _major(version: str) -> int:
    head = version.partition(".")[0]
    return int(head) if head.isdecimal() else 0


def diagnosis_text(found: Diagnosis) -> str:
    """A diagnosis, for a person."""
    here = found.here
    drift = f"{len(here.drift)} differences" if here.drift else "as locked"
    rows = [
        ("system", here.system),
        ("container", here.container),
        ("python", here.python),
        ("environment", f"{here.lock}: {drift}"),
        ("torch", here.torch or f"none: {here.torch_problem}"),
        ("processor", f"{here.processor}, {here.processors} usable"),
        ("", " ".join(here.processor_flags)),
        ("gpu", f"{here.gpu}, driver {here.driver}" if here.gpu else "none"),
        ("cuda", f"{here.cuda}, {'usable' if here.cuda_usable else 'not usable'}" if here.cuda
         else "torch is built without it"),
        ("engine", here.engine or "none answers (needed for `make image` alone)"),
        ("remote", f"{here.remote or 'none'}: {here.remote_problem or 'holds the snapshot'}"),
        ("git", f"{here.commit[:12]}, {here.uncommitted} files with changes" if here.commit
         else "no repository"),
        ("disk", f"{here.free_bytes / _GIGABYTE:.1f} GB free"),
    ]  # fmt: skip
    lines = [f"{name:<13}{text}".rstrip() for name, text in rows]
    lines += ["", "differs from the pins" if found.gaps else "as pinned"]
    for gap in found.gaps:
        lines += [f"  {gap.what}: {gap.here}; pinned: {gap.pinned}", f"    mend: {gap.mend}"]
    lines += ["", "can be kept here"]
    for prospect in found.prospects:
        lines.append(
            f"  {'yes' if prospect.possible else 'NO':<4}{prospect.claim:<12}{prospect.says}"
        )
        for why, mends in zip(prospect.why, prospect.mend, strict=True):
            lines += [f"        {why}", f"        mend: {mends}"]
    return "\n".join(lines)
