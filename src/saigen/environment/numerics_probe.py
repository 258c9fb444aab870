"""The numerics canary: fixed operations on fixed inputs, whose bits tell what kernels run here.

Two environments that give the same bits here may still differ elsewhere; where they differ here,
the operations that moved are named. `environment/probe_operations.py` lists them.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from saigen.config.keys import value_at
from saigen.digest import digest_tree

if TYPE_CHECKING:
    import torch

# What may move an operation, and how it is called; keys of the environment layer.
_CAUSES = (
    ("switches.instruction_set", "instruction set {b} instead of {a}"),
    ("switches.mkl_branch", "MKL branch {b} instead of {a}"),
    ("switches.onednn_instruction_set", "oneDNN limited to {b} instead of {a}"),
    ("switches.intra_op_threads", "{b} threads instead of {a}"),
    ("packages.torch", "torch {b} instead of {a}"),
    ("packages.numpy", "numpy {b} instead of {a}"),
    ("libraries.torch_git", "another build of torch"),
    ("libraries.blas", "{b} instead of {a}"),
    ("libraries.onednn", "{b} instead of {a}"),
    ("cpu_vendor", "a processor of {b} instead of {a}"),
    ("gpu.model", "{b} instead of {a}"),
    ("gpu.driver", "driver {b} instead of {a}"),
    ("gpu.cuda", "CUDA {b} instead of {a}"),
    ("gpu.cudnn", "cuDNN {b} instead of {a}"),
)
_SPELLED = {"AVX512": "AVX-512", "NO AVX": "without AVX", "DEFAULT": "without AVX"}
_DIGITS = 16


def sing(device: str, *, portable: bool) -> dict[str, Any]:
    """Run the operations; returns `digest` and `operations`, name -> 16 hex digits of SHA-256.

    Call after the switches were set. Draws come from generators of their own: no stream is
    touched. Nondeterministic kernels are off while it runs, whatever was chosen, so that the
    digest is a function of the environment. Under `portable` the operations that it does not
    promise are left out. 71 operations take 0.03 s, and 0.3 s the first time (1 or 2 threads).
    """
    import torch

    from saigen.environment.probe_operations import HOLE, OPERATIONS, Inputs

    _warm_up()
    found: dict[str, str] = {}
    with _deterministic(), torch.enable_grad():
        given = Inputs(torch.device(device))
        for name, operation in OPERATIONS.items():
            if not (portable and name in HOLE):
                found[name] = _digest(operation(given))
    return {"digest": digest_tree(found), "operations": found}


def moved(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Which operations have other bits in environment layer `b` than in `a`, and why; or nothing.

    ``exp and softmax: instruction set AVX2 instead of AVX-512``. Several causes are all named:
    which of them it was, bits cannot tell. An operation that only one of them ran is no evidence.
    """
    left, right = (side.get("canary", {}).get("operations", {}) for side in (a, b))
    names = [name for name in left if name in right and left[name] != right[name]]
    if not names:
        return ""
    causes = [
        words.format(a=_word(old), b=_word(new))
        for key, words in _CAUSES
        if (old := value_at(a, key)) != (new := value_at(b, key)) and not {None, ...} & {old, new}
    ]
    unknown = "nothing that is recorded differs; the processor itself, or what runs below it"
    return f"{_listed(names)}: {', or '.join(causes) or unknown}"


def _digest(result: "torch.Tensor | tuple[torch.Tensor, ...]") -> str:
    import torch

    state = hashlib.sha256()
    for tensor in (result,) if isinstance(result, torch.Tensor) else result:
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        state.update(plain.view(torch.uint8).numpy().tobytes())
    return state.hexdigest()[:_DIGITS]


def _warm_up() -> None:
    """First calls into MKL's vector library by one thread: several race (pytorch #188792)."""
    import torch

    few = torch.full((4,), 0.5)
    for function in (torch.sqrt, torch.exp, torch.log, torch.tanh, torch.sin, torch.erf):
        function(few)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Only deterministic kernels inside; the switches are put back after it."""
    import torch

    cudnn = torch.backends.cudnn
    kept = torch.are_deterministic_algorithms_enabled()
    kept_cudnn = cudnn.benchmark, cudnn.deterministic
    # what the public function calls, without its import of the compiler (1.5 s)
    torch._C._set_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(kept)
        cudnn.benchmark, cudnn.deterministic = kept_cudnn


def _word(value: Any) -> str:
    return _SPELLED.get(str(value), str(value))


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
