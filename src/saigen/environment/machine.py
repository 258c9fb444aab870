"""The environment layer: what lies under the code and can move bits."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from saigen.digest import digest_file, digest_value
from saigen.environment import numerics_probe
from saigen.recipe import Layer

LOCKS = {"cpu": Path("docker/lock-cpu.txt"), "cuda": Path("docker/lock-cuda.txt")}

# By name, never by pattern: no secret can be among them.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING",
    "KMP_AFFINITY", "KMP_DETERMINISTIC_REDUCTION", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE",
    "MKL_NUM_THREADS", "NCCL_ALGO", "NCCL_PROTO", "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS", "OMP_SCHEDULE", "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE", "PYTHONHASHSEED", "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_CUDNN_V8_API_DISABLED",
)  # fmt: skip


def capture(
    root: Path,
    switches: dict[str, Any],
    device: str,
    *,
    portable: bool,
    replaced: Mapping[str, str],
) -> Layer:
    """Packages, lock, interpreter, libc, instruction set, BLAS, threads, devices, and the canary.

    `switches` is what `training.settings.read_back` found after it was set. `portable`: whether
    the same is promised on processors of every maker, so that the maker is a circumstance.
    `replaced`: files inside the packages that are not those that were installed.
    """
    vendor = cpu_information().get("vendor_id", "unknown")
    return Layer(
        "environment",
        {
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "machine": platform.machine(),
            "libc": "-".join(platform.libc_ver()),
            "packages": installed_packages(),
            **({"replaced": dict(replaced)} if replaced else {}),
            "lock": {
                name: digest_file(root / path)
                for name, path in LOCKS.items()
                if (root / path).is_file()
            },
            "switches": switches,
            "variables": {n: os.environ[n] for n in VARIABLES if n in os.environ},
            **({} if portable else {"cpu_vendor": vendor}),
            "libraries": _libraries(),
            "gpu": _gpu() if device == "cuda" else None,
            "canary": numerics_probe.sing(device, portable=portable),
        },
    )


def of_preparation(root: Path) -> dict[str, Any]:
    """What of the environment a preparation may hang on, without looking at torch."""
    return {
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
        "cpu_flags": digest_value(cpu_information().get("flags", "unknown")),
        "lock": {name: digest_file(root / path) for name, path in LOCKS.items()
                 if (root / path).is_file()},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }  # fmt: skip


def installed_packages() -> dict[str, str]:
    """Name and version of every distribution that this interpreter would import."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.name.lower().replace("_", "-")
        if name != "saigen":  # its own source is the code layer
            found.setdefault(name, distribution.version)
    return dict(sorted(found.items()))


def cpu_information() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    block = path.read_text(encoding="utf-8").split("\n\n", maxsplit=1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def machine() -> dict[str, Any]:
    """What is recorded of the machine and moves no bit: it enters no digest."""
    information = cpu_information()
    return {
        "host": platform.node(),
        "os": _os_name(),
        "kernel": platform.release(),
        "cpu_vendor": information.get("vendor_id", "unknown"),
        "cpu_model": information.get("model name", platform.processor()),
        "cpu_flags": sorted(information.get("flags", "").split()),
        "cpu_count": os.cpu_count(),
        "interpreter": sys.executable,
        "container": _container(),
    }


def _container() -> dict[str, str] | str:
    """The image as the image's own start tells it; `none` on a host."""
    if os.environ.get("SAIGEN_ENVIRONMENT") != "container":
        return "none"
    values = {
        n: os.environ.get(f"SAIGEN_IMAGE_{n}".upper()) for n in ("id", "digest", "commit", "lock")
    }
    return {name: value for name, value in values.items() if value is not None} or {"id": "unknown"}


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _libraries() -> dict[str, str]:
    """Versions of the numeric libraries inside torch, as its build names them."""
    import torch

    lines = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    return {
        "torch_git": torch.version.git_version,
        "blas": next((line for line in lines if "Math Kernel Library" in line), "other"),
        "onednn": next((line for line in lines if "MKL-DNN" in line), "none"),
        "openmp": next((line for line in lines if line.startswith("OpenMP")), "none"),
    }


def _gpu() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    driver = Path("/proc/driver/nvidia/version")
    return {
        "model": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver.read_text(encoding="utf-8").splitlines()[0] if driver.exists() else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "nccl": ".".join(str(part) for part in torch.cuda.nccl.version()),  # type: ignore[no-untyped-call]
    }
