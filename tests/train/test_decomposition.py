"""A gradient is taken apart into what it was put together from."""

import math

import pytest
import torch
from torch.nn import functional as F

from kdprobe.train.decomposition import blended


@pytest.mark.parametrize("T", [1.0, 2.5, 4.0, 20.0])
@pytest.mark.parametrize("w", [0.1, 0.9, 1.0])
def test_a_mixture_is_taken_apart_without_being_told_its_temperature(T, w):
    g = torch.Generator().manual_seed(1)
    z, u = (2 * torch.randn(32, 10, generator=g, dtype=torch.float64) for _ in range(2))
    y = torch.randint(10, (32,), generator=g)
    hard = z.softmax(1) - F.one_hot(y, 10)
    soft = T * ((z / T).softmax(1) - (u / T).softmax(1))
    found = blended(0.3 * ((1 - w) * hard + w * soft), z, u, y)
    assert found.scale == pytest.approx(0.3, rel=1e-4)
    assert found.share == pytest.approx(w, rel=1e-4)
    assert found.temperature == pytest.approx(T, rel=1e-3)
    assert found.residual < 1e-5
    assert blended(hard, z, u, y).share == pytest.approx(0, abs=1e-9)
    assert math.isnan(blended(hard, z, u, y).temperature)


def test_the_fit_is_the_least_squares_one_of_lstsq():
    g = torch.Generator().manual_seed(2)
    z, u, push = (torch.randn(16, 5, generator=g, dtype=torch.float64) for _ in range(3))
    y = torch.randint(5, (16,), generator=g)
    hard = (z.softmax(1) - F.one_hot(y, 5)).flatten()
    soft = (3 * ((z / 3).softmax(1) - (u / 3).softmax(1))).flatten()
    basis = torch.stack([hard, soft], dim=1)
    a, b = torch.linalg.lstsq(basis, push.flatten()).solution.tolist()
    left = push.flatten() - basis @ torch.tensor([a, b], dtype=torch.float64)
    found = blended(push, z, u, y, temperature=3.0)
    assert found.scale == pytest.approx(a + b)
    assert found.share == pytest.approx(b / (a + b))
    assert found.residual == pytest.approx(float(left.norm() / push.norm()))
    cosine = float((push.flatten() - left) @ push.flatten()) / float(
        (push.flatten() - left).norm() * push.norm()
    )
    assert found.explained == pytest.approx(cosine**2)


def test_a_guide_that_is_the_label_leaves_all_to_the_cross_entropy():
    """The two gradients are one: no share can be told, and none is invented."""
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(8) % 4
    sure = 1e4 * F.one_hot(y, 4).double()
    found = blended(z.softmax(1) - F.one_hot(y, 4), z, sure, y, temperature=1.0)
    assert found.scale == pytest.approx(1)
    assert found.share == pytest.approx(0)
