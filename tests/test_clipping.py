"""The mean of summed gradients, and its length."""

import math

import pytest
import torch

from saigen.training.clipping import Clipping


def gradient(elements, seed=0):
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("elements", [1, 5, 4096, 4097, 20_000])
def test_clipping_agrees_with_torch(elements):
    ours, theirs = gradient(elements), torch.nn.Parameter(torch.zeros(elements))
    theirs.grad = ours.clone() / 8
    torch.nn.utils.clip_grad_norm_([theirs], 0.01)
    Clipping([ours], 0.01).mean_and_clip(8.0)
    assert torch.allclose(ours, theirs.grad, rtol=1e-5, atol=0)


def test_a_short_gradient_is_only_divided():
    ours = gradient(100)
    expected = ours / 4
    Clipping([ours], 1e6).mean_and_clip(4.0)
    assert torch.equal(ours, expected)


def test_without_a_limit_the_mean_is_the_quotient():
    ours = gradient(100)
    expected = ours / 3
    Clipping([ours], None).mean_and_clip(3.0)
    assert torch.equal(ours, expected)


def test_the_norm_does_not_depend_on_the_order_of_the_tensors():
    parts = [gradient(9000, seed) for seed in range(5)]
    assert Clipping(parts, 1.0).norm() == Clipping(parts[::-1], 1.0).norm()


def test_a_gradient_that_is_not_a_number_stays_visible():
    ours = torch.tensor([1.0, math.nan])
    Clipping([ours], 1.0).mean_and_clip(1.0)
    assert ours.isnan().all()
    ours = torch.tensor([1.0, math.inf])
    Clipping([ours], 1.0).mean_and_clip(1.0)
    assert ours.isnan().any()
