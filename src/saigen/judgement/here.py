"""What this machine has: system, interpreter, processor, GPU, engine, remote, git, disk."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from saigen.recipe import lock
from saigen.recipe.code import git_state
from saigen.recipe.environment import cpu_information, machine
from saigen.records.document import Document

_PATIENCE_SECONDS = 30  # with a remote or an engine that does not answer


class Here(Document):
    """What was found. A text is empty where there is no such thing."""

    system: str = Field(description="distribution and kernel")
    architecture: str
    python: str
    container: str = Field(description="the image's id, or none")
    processor: str
    processor_flags: list[str] = Field(description="those that choose kernels")
    processors: int = Field(description="that this process may use")
    drift: list[str] = Field(description="how what is installed differs from the lock")
    lock: str = Field(description="the lock that it was held to")
    torch: str = Field(description="its version; empty: it cannot be imported")
    torch_problem: str
    mkl: bool = Field(description="whether MKL tells the branch that it takes")
    gloo: bool = Field(description="whether processes on this machine can share a run")
    gpu: str
    driver: str
    cuda: str = Field(description="that torch is built for")
    cuda_usable: bool = Field(description="whether torch can use a GPU")
    engine: str = Field(description="the container engine that answers")
    remote: str = Field(description="DVC's remote")
    remote_problem: str = Field(description="why the snapshot cannot be had from it")
    commit: str
    uncommitted: int = Field(description="files with changes, or that git does not know")
    free_bytes: int = Field(description="on the disk of the project")


def look(root: Path) -> Here:
    """Look at everything; takes a few seconds, most of them for torch and DVC."""
    host, information = machine(), cpu_information()
    container = host["container"]
    remote, remote_problem = _remote(root)
    commit, uncommitted = _git(root)
    return Here(
        system=f"{host['os']}, kernel {host['kernel']}",
        architecture=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        container=container if isinstance(container, str) else container.get("id", "unknown"),
        processor=host["cpu_model"],
        processor_flags=[
            flag
            for flag in information.get("flags", "").split()
            if flag in {"avx", "avx2", "fma", "avx_vnni", "amx_tile"} or flag.startswith("avx512")
        ],
        processors=len(os.sched_getaffinity(0)),
        drift=lock.drift(root.resolve()).lines,
        lock=str(lock.lock_file(root).relative_to(root)),
        **_torch(),
        **_gpu(),
        engine=_engine(),
        remote=remote,
        remote_problem=remote_problem,
        commit=commit,
        uncommitted=uncommitted,
        free_bytes=shutil.disk_usage(root).free,
    )


def _torch() -> dict[str, Any]:
    nothing = {"torch": "", "mkl": False, "gloo": False, "cuda": "", "cuda_usable": False}
    try:
        import torch
        import torch.distributed as dist

        from saigen.training.branches import mkl_branch
    except (ImportError, OSError) as error:  # a library that is gone is an OSError
        return {**nothing, "torch_problem": str(error).splitlines()[0]}
    loopback = "lo" in {name for _, name in socket.if_nameindex()}
    return {
        "torch": torch.__version__,
        "torch_problem": "",
        "mkl": torch.backends.mkl.is_available() and mkl_branch() != "unreadable",  # type: ignore[no-untyped-call]
        "gloo": dist.is_available() and dist.is_gloo_available() and loopback,
        "cuda": torch.version.cuda or "",
        "cuda_usable": torch.cuda.is_available(),
    }


def _gpu() -> dict[str, Any]:
    asked = "--query-gpu=name,driver_version", "--format=csv,noheader"
    name, _, driver = _told("nvidia-smi", *asked).partition("\n")[0].partition(", ")
    return {"gpu": name, "driver": driver}


def _engine() -> str:
    for name in ("docker", "podman"):
        if version := _told(name, "version", "--format", "{{.Server.Version}}"):
            return f"{name} {version}"
    return ""


def _remote(root: Path) -> tuple[str, str]:
    """DVC's default remote, and why it does not hold the snapshot, if it does not."""
    dvc = (sys.executable, "-m", "dvc")
    listed = [line.split() for line in _told(*dvc, "remote", "list", at=root).splitlines()]
    name = next((words[0] for words in listed if "(default)" in words), "")
    if not name:
        return "", "no remote is configured"
    try:
        done = _run(*dvc, "status", "--cloud", "--json", "data.dvc", at=root)
    except subprocess.TimeoutExpired:
        return name, f"no answer within {_PATIENCE_SECONDS} s"
    if done.returncode:
        return name, (done.stderr.strip().splitlines() or ["dvc status failed"])[-1]
    lacking = [path for path, state in json.loads(done.stdout).items() if state != "deleted"]
    return name, f"it lacks {', '.join(lacking)}" if lacking else ""


def _git(root: Path) -> tuple[str, int]:
    state = git_state(root)
    changed = len(re.findall(r"^diff --git ", state["patch"], re.MULTILINE))
    return state["commit"] or "", changed + len(state["untracked"])


def _run(*command: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=at,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_SECONDS,
        stdin=subprocess.DEVNULL,
    )


def _told(*command: str, at: Path | None = None) -> str:
    """What a command printed; nothing where it failed, hung, or is not there."""
    try:
        done = _run(*command, at=at)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.strip()
