"""From the sum of gradients to their mean, no longer than the config allows.

The norm is summed in fixed blocks, so that it is a function of the elements, whatever memory or
processes share them; mean and clipping are one multiplication.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# saigen: constant, because every recipe sums a gradient in blocks of this size
_NORM_BLOCK = 4096  # elements; part of what a run is: another size moves bits


def mean_and_clip(
    gradients: Sequence[Tensor], terms: float | Tensor, longest: float | None
) -> None:
    """Divide summed gradients by `terms`, in place, and shorten them to a norm of `longest`.

    The factor of `torch.nn.utils.clip_grad_norm_`, of the mean. Nothing waits for a device.
    """
    if longest is None:
        for gradient in gradients:
            gradient.div_(terms)
        return
    norm = norm_of(gradients)
    factor: float | Tensor
    if isinstance(norm, Tensor):
        # saigen: constant, because torch's own clipping divides so too
        factor = (longest / (norm / terms + 1e-6)).clamp_(max=1.0) / terms
    else:
        terms = float(terms)
        # saigen: constant, because torch's own clipping divides so too
        shorter = min(1.0, longest / (norm / terms + 1e-6)) if norm < math.inf else math.nan
        factor = shorter / terms
    for gradient in gradients:
        gradient.mul_(factor)


def norm_of(gradients: Sequence[Tensor]) -> float | Tensor:
    """The Euclidean norm of all gradients: a number on the CPU, elsewhere () float64.

    The norms of blocks of 4,096 elements are taken in float32 (float64 would take 30 times as
    long) and summed in float64: on the CPU exactly rounded, thus in any order (`math.fsum`).
    """
    blocks = [part for gradient in gradients for part in _norms_of_blocks(gradient)]
    if blocks[0].device.type == "cpu":
        return math.sqrt(math.fsum(n * n for block in blocks for n in block.tolist()))
    norm: Tensor = torch.linalg.vector_norm(torch.cat(blocks).double())
    return norm


def _norms_of_blocks(gradient: Tensor) -> list[Tensor]:
    whole = gradient.numel() // _NORM_BLOCK * _NORM_BLOCK
    parts = [gradient[:whole].view(-1, _NORM_BLOCK), gradient[whole:].view(1, -1)]
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return [torch.linalg.vector_norm(p, dim=1, dtype=wide) for p in parts if p.numel()]
