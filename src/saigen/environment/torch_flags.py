"""The switches of `reproducibility`: set before the interpreter starts or after, then read back.

What only works before the start (hash seed, instruction set, cuBLAS workspace) is set by
starting again once, in the same process, with the right environment.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from saigen.config.schema import Config
from saigen.errors import Refusal

_STARTED = "SAIGEN_STARTED_AGAIN"
# How long an idle thread spins before it sleeps; moves no bit. libgomp's own 300,000 turns make
# small operations up to 50 times slower where other work shares the cores (docs/log.md).
_SPIN_TURNS = "1000"
# They change the number of threads behind our back, and hang oneDNN's backward pass; stacks that do
# not fit end the process.
_NEVER = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "OMP_NESTED",
          "OMP_STACKSIZE", "GOMP_STACKSIZE")  # fmt: skip


def environment_of(config: Config) -> dict[str, str | None]:
    """The variables that this config needs before the interpreter starts; None: unset."""
    reproducibility, threads = config.reproducibility, str(config.hardware.intra_op_threads)

    def unless_native(value: str) -> str | None:
        return None if value == "native" else value

    return {
        "PYTHONHASHSEED": str(reproducibility.python_hash_seed),
        "CUBLAS_WORKSPACE_CONFIG": reproducibility.cublas_workspace,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # who sets it knows the machine, and it moves no bit
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", _SPIN_TURNS),
        "ATEN_CPU_CAPABILITY": unless_native(reproducibility.instruction_set),
        "MKL_CBWR": unless_native(reproducibility.mkl_branch),
        "ONEDNN_MAX_CPU_ISA": unless_native(reproducibility.onednn_instruction_set),
        **dict.fromkeys(_NEVER),
    }


def must_start_again(config: Config) -> bool:
    """Whether this process was started in another environment than the config needs."""
    right = all(os.environ.get(name) == value for name, value in environment_of(config).items())
    if right:
        os.environ.pop(_STARTED, None)  # a process of ours that we start may have to start again
    return not right


def start_again(config: Config) -> NoReturn:
    """Replace this process by one that is started in the environment the config needs.

    Must be called before torch is imported. Raises Refusal if that was tried before.
    """
    wanted = environment_of(config)
    if os.environ.get(_STARTED):
        name = next(name for name, value in wanted.items() if os.environ.get(name) != value)
        raise Refusal(
            "an environment variable does not stay as it was set",
            where=name,
            expected=str(wanted[name]),
            got=str(os.environ.get(name)),
            fix="look for what sets it at Python's start: sitecustomize, a wrapper script",
        )
    environment = os.environ | {n: v for n, v in wanted.items() if v is not None} | {_STARTED: "1"}
    for name in (name for name, value in wanted.items() if value is None):
        environment.pop(name, None)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def start_again_if_needed(config: Config) -> None:
    """Start again unless the environment is right."""
    if must_start_again(config):
        start_again(config)


def apply(config: Config) -> None:
    """Set every switch of the config in torch. Call once, before the first operation."""
    import torch

    from saigen.environment.optimizer_step import leave_the_compiler_out

    reproducibility, hardware = config.reproducibility, config.hardware
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise Refusal(
            "there is no CUDA device",
            where="hardware.device",
            expected="a CUDA device that torch can use",
            got=f"none; this torch is {torch.__version__}",
            fix="hardware=cpu, or `make train VARIANT=cuda` on a machine with a GPU and its driver",
        )
    torch.set_num_threads(hardware.intra_op_threads)
    if torch.get_num_interop_threads() != hardware.inter_op_threads:
        torch.set_num_interop_threads(hardware.inter_op_threads)
    if hardware.compile:
        torch.use_deterministic_algorithms(reproducibility.deterministic_algorithms)
    else:
        # what the public function calls, without its import of the compiler (1.5 s)
        torch._C._set_deterministic_algorithms(reproducibility.deterministic_algorithms)
        leave_the_compiler_out()
    torch._C._set_deterministic_fill_uninitialized_memory(reproducibility.fill_uninitialized_memory)
    torch.set_float32_matmul_precision(reproducibility.float32_matmul_precision)
    torch.backends.cudnn.benchmark = reproducibility.cudnn_benchmark
    torch.backends.cudnn.deterministic = reproducibility.cudnn_deterministic
    torch.backends.cudnn.allow_tf32 = reproducibility.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = reproducibility.allow_tf32
    reduced = reproducibility.allow_reduced_precision_reduction
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = reduced
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = reduced


def read_back() -> dict[str, Any]:
    """Every switch as torch and the interpreter hold it now."""
    import torch

    from saigen.environment.torch_branches import mkl_branch, onednn_instruction_set

    matmul = torch.backends.cuda.matmul
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "fill_uninitialized_memory": torch._C._get_deterministic_fill_uninitialized_memory(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "allow_tf32": matmul.allow_tf32 and torch.backends.cudnn.allow_tf32,
        "allow_reduced_precision_reduction": matmul.allow_bf16_reduced_precision_reduction,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        "python_hash_seed": os.environ.get("PYTHONHASHSEED"),
        "hash_randomization": bool(sys.flags.hash_randomization),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "mkl_branch": mkl_branch(),
        "onednn_instruction_set": onednn_instruction_set(),
        "intra_op_threads": torch.get_num_threads(),
        "inter_op_threads": torch.get_num_interop_threads(),
    }


def tell_flipped(before: Mapping[str, Any]) -> None:
    """Say which switches the training left otherwise than they stood before it: the recipe names
    what they were.
    """
    flipped = [f"{n}: {before[n]} -> {v}" for n, v in read_back().items() if v != before[n]]
    if flipped:
        print(
            f"warning: the project set switches while it trained, so the recipe names what they "
            f"were before: {'; '.join(flipped)}; set them in conf/reproducibility instead",
            file=sys.stderr,
        )


def refuse_unless_set(config: Config, found: Mapping[str, Any]) -> None:
    """Compare what was read back with what was asked for; raise Refusal on the first difference."""
    import torch

    wanted = config.reproducibility.model_dump() | {
        "intra_op_threads": config.hardware.intra_op_threads,
        "inter_op_threads": config.hardware.inter_op_threads,
        "python_hash_seed": str(config.reproducibility.python_hash_seed),
    }
    instructions = wanted.pop("instruction_set")
    # torch takes ATEN_CPU_CAPABILITY at its word, also where the processor lacks it
    has = {"avx2": torch.cpu._is_avx2_supported, "avx512": torch.cpu._is_avx512_supported}
    if instructions in has and not has[instructions]():
        raise Refusal(
            f"this processor has no {instructions}",
            where="reproducibility.instruction_set",
            expected=f"a processor with {instructions}",
            got="one without",
            fix="run on another machine, or choose native or default and let the recipe say so",
        )
    if instructions != "native":
        wanted["instruction_set"] = instructions.upper()
    for name, value in found.items():
        if name in wanted and wanted[name] != value:
            raise Refusal(
                "a switch was set and did not stay set",
                where=f"reproducibility.{name}",
                expected=repr(wanted[name]),
                got=repr(value),
                fix="look for what else sets it (a library, an environment variable), or "
                "choose the value that this machine has and let the recipe say so",
            )
