"""The branch that MKL took and the instruction set that oneDNN took, asked of the libraries.

Both read their variable at their first operation and ignore it silently ever after, so the
variable itself proves nothing.
"""

import ctypes
import os
from pathlib import Path

import torch

# mkl_service.h (oneMKL 2024) counts the branches so
_BRANCHES = {1: "native", 2: "AUTO", 3: "COMPATIBLE", 4: "SSE2", 8: "SSE4_2", 9: "AVX", 10: "AVX2",
             12: "AVX512", 14: "AVX512_E1"}  # fmt: skip
_STRICT, _ALL = 0x10000, -1  # of mkl_service.h, too
_BELOW_AVX512 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI")


def mkl_branch() -> str:
    """MKL's branch in the words of MKL_CBWR; native: none was asked for, or there is no MKL.

    The answer is what MKL_VERBOSE=1 prints as CNR, at the price of a call.
    """
    # an unset variable means the native branch
    asked = os.environ.get("MKL_CBWR", "native")
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return "native"
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
        code: int = library.mkl_serv_cbwr_get(_ALL)
    except (OSError, AttributeError):  # another build of torch, which keeps it to itself
        return "native" if asked == "native" else "unreadable"
    branch = _BRANCHES.get(code & ~_STRICT, str(code))
    return f"{branch},STRICT" if code & _STRICT else branch


def onednn_instruction_set() -> str:
    """ONEDNN_MAX_CPU_ISA where oneDNN keeps to it; native: unset.

    oneDNN tells only whether it goes beyond AVX2: it has 16-bit products from AVX-512 on.
    """
    # an unset variable means no limit
    asked = os.environ.get("ONEDNN_MAX_CPU_ISA", "native")
    beyond = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return "AVX-512" if asked in _BELOW_AVX512 and beyond else asked
