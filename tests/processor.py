"""What this processor has: asked before anything is started that needs it.

torch takes ATEN_CPU_CAPABILITY at its word, and a processor without those instructions ends it by
SIGILL.
"""

import pytest
import torch

_HAS = {"avx2": torch.cpu._is_avx2_supported(), "avx512": torch.cpu._is_avx512_supported()}
CAPABILITIES = ("default", *(name for name, has in _HAS.items() if has))  # of ATen, rising
# of these the one that most processors have
COMMON = "avx2" if _HAS["avx2"] else "default"


def needs(name: str) -> pytest.MarkDecorator:
    """Marks what this processor may not be able to do."""
    return pytest.mark.skipif(not _HAS[name], reason=f"NOT CHECKED: this processor has no {name}")
