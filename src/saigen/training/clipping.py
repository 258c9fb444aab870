"""From the sum of gradients to their mean, no longer than the config allows.

The norm is summed in fixed blocks, so that it is a function of the elements, whatever memory or
processes share them; mean and clipping are one multiplication.
"""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

# every recipe sums a gradient in blocks of this size
_NORM_BLOCK = 4096  # elements; part of what a run is: another size moves bits


class Clipping:
    """Divides summed gradients by a number of terms and shortens them to a norm, in place.

    The memory that is clipped stays where it is, so its blocks are laid out once.
    """

    def __init__(self, gradients: Sequence[Tensor], longest: float | None) -> None:
        """Take the gradients, on one device, and the norm their mean may have; None: any."""
        self.gradients, self._longest = gradients, longest
        blocks = [part for gradient in gradients for part in _blocks(gradient)]
        self._on_host = gradients[0].device.type == "cpu"
        total = sum(map(len, blocks))
        wide = reduce(torch.promote_types, (g.dtype for g in gradients), torch.float32)
        self._norms = torch.zeros(total, dtype=wide, device=gradients[0].device)
        norms = torch.split(self._norms, [len(block) for block in blocks])
        self._blocks = list(zip(blocks, norms, strict=True))

    def norm(self) -> float | Tensor:
        """The Euclidean norm of all gradients: a number on the CPU, elsewhere () float64.

        The norms of blocks of 4,096 elements are taken in float32 (float64 would take 30 times as
        long; float64 gradients have it) and summed in float64: on the CPU exactly rounded, thus in
        any order (`math.fsum`).
        """
        for block, out in self._blocks:
            torch.linalg.vector_norm(block, dim=1, dtype=out.dtype, out=out)
        if self._on_host:
            return math.sqrt(math.fsum([n * n for n in self._norms.numpy().tolist()]))
        norm: Tensor = torch.linalg.vector_norm(self._norms.double())
        return norm

    def mean_and_clip(self, terms: float | Tensor) -> None:
        """Divide by `terms` and clip, by the factor of `torch.nn.utils.clip_grad_norm_`.

        Nothing waits for a device.
        """
        if self._longest is None:
            for gradient in self.gradients:
                gradient.div_(terms)
            return
        norm, longest = self.norm(), self._longest
        factor: float | Tensor
        if isinstance(norm, Tensor):
            # torch's own clipping divides so too
            factor = (longest / (norm / terms + 1e-6)).clamp_(max=1.0) / terms
        else:
            terms = float(terms)
            shorter = min(1.0, longest / (norm / terms + 1e-6)) if norm < math.inf else math.nan
            factor = shorter / terms
        for gradient in self.gradients:
            gradient.mul_(factor)


def _blocks(gradient: Tensor) -> list[Tensor]:
    whole = gradient.numel() // _NORM_BLOCK * _NORM_BLOCK
    parts = (gradient[:whole].view(-1, _NORM_BLOCK), gradient[whole:].view(1, -1))
    return [part for part in parts if part.numel()]
