"""What this machine has: system, interpreter, processor, GPU, engine, remote, git, disk."""

import json
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

from pydantic import Field

from saigen import git_dvc
from saigen.documents import Document
from saigen.environment import lock
from saigen.environment.machine import cpu_information, machine
from saigen.git_dvc import dvc
from saigen.runs.uncommitted import state

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
    git_problem: str = Field(description="why git cannot be asked about the project")
    uncommitted: int = Field(description="files with changes, or that git does not know")
    free_bytes: int = Field(description="on the disk of the project")


def look(root: Path) -> Here:
    """Look at everything; takes a few seconds, most of them for torch and DVC."""
    host, git = machine(), state(root)
    container = host["container"]
    flags = cpu_information().get("flags", "").split()
    chosen = {"avx", "avx2", "fma", "avx_vnni", "amx_tile"}
    remote, remote_problem = _remote(root)
    gpu = _told("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = gpu.partition("\n")[0].partition(", ")
    return Here(
        system=f"{host['os']}, kernel {host['kernel']}",
        architecture=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        container=container if isinstance(container, str) else container.get("id", "unknown"),
        processor=host["cpu_model"],
        processor_flags=[f for f in flags if f in chosen or f.startswith("avx512")],
        processors=len(os.sched_getaffinity(0)),
        drift=lock.drift(root.resolve()).lines,
        lock=str(lock.lock_file(root).relative_to(root)),
        **_torch(),
        gpu=name,
        driver=driver,
        engine=_engine(),
        remote=remote,
        remote_problem=remote_problem,
        commit=git["commit"] or "",
        git_problem=git_dvc.problem(root),
        uncommitted=sum(len(git[kind]) for kind in ("changed", "untracked", "links", "left_out")),
        free_bytes=shutil.disk_usage(root).free,
    )


def _torch() -> dict[str, Any]:
    try:
        import torch
        import torch.distributed as dist

        from saigen.environment.torch_branches import mkl_branch
    except (ImportError, OSError) as error:  # a library that is gone is an OSError
        nothing = {"torch": "", "mkl": False, "gloo": False, "cuda": "", "cuda_usable": False}
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


def _engine() -> str:
    for name in ("docker", "podman"):
        if version := _told(name, "version", "--format", "{{.Server.Version}}"):
            return f"{name} {version}"
    return ""


def _remote(root: Path) -> tuple[str, str]:
    """DVC's default remote, and why it does not hold the snapshot, if it does not."""
    name = ""
    try:
        listed = dvc(root, "remote", "list", seconds=_PATIENCE_SECONDS).stdout.decode()
        name = next((line.split()[0] for line in listed.splitlines() if "(default)" in line), "")
        if not name:
            return "", "no remote is configured"
        status = ("status", "--cloud", "--json", "data.dvc")
        done = dvc(root, *status, seconds=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return name, f"no answer within {_PATIENCE_SECONDS} s"
    if done.returncode:
        return name, (done.stderr.decode().strip().splitlines() or ["dvc status failed"])[-1]
    lacking = [path for path, state in json.loads(done.stdout).items() if state != "deleted"]
    return name, f"it lacks {', '.join(lacking)}" if lacking else ""


def _told(*command: str) -> str:
    """What a command printed; nothing where it failed, hung, or is not there."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE_SECONDS,
            stdin=subprocess.DEVNULL,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
