"""The canary's operations: what trainings are made of, small, in fixed shapes.

Inputs come from integer arithmetic, which is exact everywhere. A name is what a person reads, and
part of the recipe: change an operation only together with its name.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  the field's own name for it
from torch import Tensor

from saigen.environment.optimizer_step import bare_step

Result = Tensor | tuple[Tensor, ...]

# float32 square roots of MKL's vector library are not rounded the same on every maker's
# processors: no setting helps, so `portable` promises nothing of them.
HOLE = frozenset({"square root", "arc cosine", "power 0.5", "distances", "AdamW step, not fused"})


class Inputs:
    """Tensors made of integers: value i is ((a i + b) mod 2^24) / 2^23 - 1, exact in float32."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def values(self, *shape: int, seed: int = 0) -> Tensor:
        """float32 in [-1, 1)."""
        count = torch.Size(shape).numel()
        whole = (torch.arange(count) * 2654435761 + seed * 40503 * 65537 + 12345) % (1 << 24)
        return ((whole - (1 << 23)).float() / (1 << 23)).view(shape).to(self.device)

    def indices(self, count: int, below: int) -> Tensor:
        """int64 in [0, below), with ties."""
        return (torch.arange(count) * 48271 % 65521 % below).to(self.device)

    def generator(self) -> torch.Generator:
        """A private generator, so that no stream is touched."""
        return torch.Generator(self.device).manual_seed(20240229)

    @cached_property
    def line(self) -> Tensor:
        """(4096,)"""
        return self.values(4096)

    @cached_property
    def positive(self) -> Tensor:
        """(4096,), above zero."""
        return self.values(4096, seed=1).abs() + 0.0078125

    @cached_property
    def square(self) -> Tensor:
        """(64, 64)"""
        return self.line.view(64, 64)

    @cached_property
    def other(self) -> Tensor:
        """(64, 64)"""
        return self.values(64, 64, seed=2)

    @cached_property
    def long(self) -> Tensor:
        """(131072,): long enough to be shared among threads."""
        return self.values(1 << 17, seed=3)

    @cached_property
    def images(self) -> Tensor:
        """(4, 8, 12, 12)"""
        return self.values(4, 8, 12, 12, seed=4)

    @cached_property
    def kernels(self) -> Tensor:
        """(16, 8, 3, 3)"""
        return self.values(16, 8, 3, 3, seed=5)


Operation = Callable[[Inputs], Result]


def _backward(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the sum of squares of a result with respect to its inputs."""
    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in inputs]
    return torch.autograd.grad(function(*leaves).square().sum(), leaves)


def _steps(kind: type[torch.optim.Optimizer], **options: Any) -> Operation:
    """Three steps of an optimizer on (64, 64) weights."""

    def run(given: Inputs) -> Tensor:
        weights = given.square.clone().requires_grad_(True)
        step = bare_step(kind([weights], **options))
        with torch.no_grad():
            for scale in (1.0, 0.5, 0.25):
                weights.grad = given.other * scale
                step()
        return weights

    return run


def _of_lengths(function: Callable[[Tensor], Tensor]) -> Operation:
    """A function to one number, of four lengths: one number alone may come out equal by chance."""
    return lambda given: tuple(function(given.long[:n]) for n in (131072, 100003, 65537, 40009))


def _attention(given: Inputs) -> Tensor:
    parts = given.line[:3072].view(3, 1, 4, 16, 16)
    return F.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)


def _norm_weights(given: Inputs) -> tuple[Tensor, Tensor]:
    return given.line[:64] + 1.5, given.line[64:128]


OPERATIONS: dict[str, Operation] = {
    # matrix products
    "matmul 8x8x8": lambda g: g.square[:8, :8] @ g.other[:8, :8],
    "matmul 64x64x64": lambda g: g.square @ g.other,
    "matmul 37x53x29": lambda g: g.square[:37, :53] @ g.other[:53, :29],
    "matmul 128x256x96": lambda g: g.long[:32768].view(128, 256) @ g.long[-24576:].view(256, 96),
    "matmul of float64": lambda g: g.square.double() @ g.other.double(),
    "matmul of bfloat16": lambda g: g.square.bfloat16() @ g.other.bfloat16(),
    "batched matmul": lambda g: g.line.view(16, 16, 16) @ g.other.view(16, 16, 16),
    "matrix-vector product": lambda g: g.square @ g.other[0],
    "dot product": lambda g: g.line @ g.positive,
    "linear": lambda g: F.linear(g.square, g.other, g.line[:64]),
    "linear backward": lambda g: _backward(F.linear, g.square, g.other, g.line[:64]),
    # convolutions
    "convolution 3x3": lambda g: F.conv2d(g.images, g.kernels, padding=1),
    "convolution 1x1": lambda g: F.conv2d(g.images, g.kernels[:, :, :1, :1]),
    "convolution with stride": lambda g: F.conv2d(g.images, g.kernels, stride=2),
    "convolution by groups": lambda g: F.conv2d(g.images, g.kernels[:8, :1], padding=1, groups=8),
    "convolution backward": lambda g: _backward(
        lambda x, w: F.conv2d(x, w, padding=1), g.long[:65536].view(32, 8, 16, 16), g.kernels
    ),
    "convolution 1d": lambda g: F.conv1d(g.images.view(4, 8, 144), g.kernels[:, :, 0]),
    # one value at a time
    "exp": lambda g: torch.exp(g.line),
    "log": lambda g: torch.log(g.positive),
    "log1p": lambda g: torch.log1p(g.positive),
    "tanh": lambda g: torch.tanh(g.line),
    "sigmoid": lambda g: torch.sigmoid(g.line),
    "sine": lambda g: torch.sin(g.line),
    "erf": lambda g: torch.erf(g.line),
    "arc cosine": lambda g: torch.acos(g.line),
    "power 1.7": lambda g: g.positive**1.7,
    "power 0.5": lambda g: g.positive**0.5,
    "square root": lambda g: torch.sqrt(g.positive),
    "reciprocal square root": lambda g: torch.rsqrt(g.positive),
    "division": lambda g: g.line / g.positive,
    "gelu": lambda g: F.gelu(g.line),
    "gelu by tanh": lambda g: F.gelu(g.line, approximate="tanh"),
    "silu": lambda g: F.silu(g.line),
    "softplus": lambda g: F.softplus(g.line),
    "linear interpolation": lambda g: torch.lerp(g.line, g.positive, 0.1),
    # sums and what is made of them
    "sum": _of_lengths(torch.sum),
    "sum of rows": lambda g: g.long.view(64, 2048).sum(1),
    "sum of columns": lambda g: g.long.view(2048, 64).sum(0),
    "mean": _of_lengths(torch.mean),
    "variance": _of_lengths(torch.var),
    "cumulative sum": lambda g: g.square.cumsum(1),
    "norm": _of_lengths(torch.linalg.vector_norm),
    "distances": lambda g: torch.cdist(g.square, g.other),
    "softmax": lambda g: F.softmax(g.square, 1),
    "log softmax": lambda g: F.log_softmax(g.square, 1),
    "logsumexp": lambda g: torch.logsumexp(g.square, 1),
    "cross entropy": lambda g: F.cross_entropy(g.square, g.indices(64, 64), reduction="none"),
    "softmax backward": lambda g: _backward(lambda x: F.softmax(x, 1), g.square),
    # normalization, attention, pooling
    "layer norm": lambda g: F.layer_norm(g.square, (64,), *_norm_weights(g)),
    "layer norm backward": lambda g: _backward(
        lambda x, w, b: F.layer_norm(x, (64,), w, b), g.square, *_norm_weights(g)
    ),
    "batch norm": lambda g: F.batch_norm(g.images, None, None, training=True),
    "batch norm backward": lambda g: _backward(
        lambda x: F.batch_norm(x, None, None, training=True).sin(), g.images
    ),
    "group norm": lambda g: F.group_norm(g.images, 4),
    "attention": _attention,
    "max pooling backward": lambda g: _backward(lambda x: F.max_pool2d(x, 2), g.images),
    "average pooling": lambda g: F.avg_pool2d(g.images, 3, 2),
    # gather and scatter, ties
    "scatter add": lambda g: torch.zeros(64, device=g.device).scatter_add(
        0, g.indices(4096, 64), g.line
    ),
    "index add": lambda g: torch.zeros(64, 64, device=g.device).index_add(
        0, g.indices(64, 16), g.square
    ),
    "embedding backward": lambda g: _backward(
        lambda w: F.embedding(g.indices(2000, 64), w), g.square
    ),
    "sort with ties": lambda g: torch.sort(g.indices(4096, 37)).indices,
    "top k with ties": lambda g: torch.topk(g.indices(512, 37), 20).indices,
    # optimizers
    "SGD step": _steps(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True),
    "AdamW step": _steps(torch.optim.AdamW, lr=0.01, weight_decay=0.01, fused=True),
    "AdamW step, not fused": _steps(torch.optim.AdamW, lr=0.01, foreach=False, fused=False),
    # draws
    "uniform draws": lambda g: torch.rand(1000, generator=g.generator(), device=g.device),
    "normal draws": lambda g: torch.randn(1000, generator=g.generator(), device=g.device),
    "few normal draws": lambda g: torch.randn(15, generator=g.generator(), device=g.device),
    "integer draws": lambda g: torch.randint(
        0, 100, (1000,), generator=g.generator(), device=g.device
    ),
    "permutation": lambda g: torch.randperm(1000, generator=g.generator(), device=g.device),
    "coin flips": lambda g: torch.bernoulli(g.positive * 0.9, generator=g.generator()),
    "exponential draws": lambda g: torch.empty(1000, device=g.device).exponential_(
        generator=g.generator()
    ),
}
