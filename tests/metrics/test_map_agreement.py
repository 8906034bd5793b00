"""Agreement of maps: closed forms, loops, and other libraries."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn.functional import adaptive_avg_pool2d

from kdprobe.metrics.map_agreement import (
    SD,
    WINDOW,
    idle,
    rank_accuracy,
    rank_correlation,
    relevance_mass,
    ssim,
    taken_down,
    top_overlap,
)


def maps(seed: int, count: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, side, side))


def test_rank_correlation_is_that_of_scipy_with_ties_too():
    one, two = np.round(maps(0), 1), np.round(maps(0) + maps(1), 1)
    wanted = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one, two, strict=True)]
    assert np.allclose(rank_correlation(one, two), wanted, atol=1e-12)


def test_rank_correlation_looks_at_order_alone():
    one = maps(0)
    assert rank_correlation(one, np.exp(3 * one) + 7) == pytest.approx([1.0] * 3)
    assert rank_correlation(one, -one) == pytest.approx([-1.0] * 3)
    assert abs(rank_correlation(maps(0, 50, 32), maps(1, 50, 32)).mean()) < 0.02


def test_top_overlap_counts_pixels_of_both():
    one, two = np.zeros((1, 4, 5)), np.zeros((1, 4, 5))
    one[0, 0, :4] = [4, 3, 2, 1]
    two[0, 0, 2:4], two[0, 1, :2] = [4, 3], [2, 1]
    assert top_overlap(one, two, 0.2) == pytest.approx([2 / 6])
    assert top_overlap(one, one, 0.2) == pytest.approx([1.0])
    assert top_overlap(one, two, 0.0001) == pytest.approx([0.0]), "at least one pixel"


def by_loops(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM window by window, from its definition."""
    a, b = (0.5 + 0.5 * m / abs(m).max() for m in (a, b))
    y, x = np.mgrid[:WINDOW, :WINDOW] - WINDOW // 2
    w = np.exp(-(x**2 + y**2) / (2 * SD**2))
    w /= w.sum()
    values = []
    for i in range(a.shape[0] - WINDOW + 1):
        for j in range(a.shape[1] - WINDOW + 1):
            p, q = (m[i : i + WINDOW, j : j + WINDOW] for m in (a, b))
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
            cov = (w * (p - mp) * (q - mq)).sum()
            luminance = (2 * mp * mq + 0.01**2) / (mp**2 + mq**2 + 0.01**2)
            values.append(luminance * (2 * cov + 0.03**2) / (vp + vq + 0.03**2))
    return float(np.mean(values))


def test_ssim_is_its_definition():
    one, two = maps(0, 3, 13), maps(0, 3, 13) * 2 + maps(1, 3, 13)
    wanted = [by_loops(a, b) for a, b in zip(one, two, strict=True)]
    assert np.allclose(ssim(one, two), wanted, atol=1e-10)
    assert np.allclose(ssim(one, two), ssim(two, one))
    assert ssim(one, 5 * one) == pytest.approx([1.0] * 3)
    assert (ssim(one, -one) < 0).all()


def test_ssim_is_that_of_another_library():
    metrics = pytest.importorskip("skimage.metrics")
    for a, b in zip(maps(0), maps(1), strict=True):
        wanted = metrics.structural_similarity(
            0.5 + 0.5 * a / abs(a).max(),
            0.5 + 0.5 * b / abs(b).max(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=SD,
            use_sample_covariance=False,
        )
        assert ssim(a[None], b[None])[0] == pytest.approx(wanted, abs=1e-6)


def test_ssim_needs_room_for_its_window():
    assert np.isnan(ssim(maps(0, 2, WINDOW - 1), maps(1, 2, WINDOW - 1))).all()


def test_relevance_on_the_object():
    values = np.array([[[3.0, 1.0], [-5.0, 0.5]]])
    objects = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    assert relevance_mass(values, objects) == pytest.approx([3 / 4.5])
    assert relevance_mass(values, 0.5 * np.ones_like(values)) == pytest.approx([0.5])
    assert rank_accuracy(values, objects) == pytest.approx([0.5]), "3 is on it, 1 is not"
    assert rank_accuracy(objects, objects) == pytest.approx([1.0])
    assert np.isnan(relevance_mass(-abs(values), objects)).all()
    assert np.isnan(rank_accuracy(values, np.zeros_like(values))).all()


def test_by_chance_both_are_the_area_of_the_object():
    values, objects = maps(3, 400), np.zeros((400, 16, 16))
    objects[:, 2:10, 3:9] = 1
    area = objects.mean()
    assert relevance_mass(values, objects).mean() == pytest.approx(area, abs=0.01)
    assert rank_accuracy(values, objects).mean() == pytest.approx(area, abs=0.01)


def test_a_map_without_an_order_has_no_number():
    flat, other = np.ones((1, 12, 12)), maps(0, 1, 12)
    assert idle(flat).all()
    assert not idle(other).any()
    for found in (rank_correlation, ssim, lambda a, b: top_overlap(a, b, 0.1)):
        assert np.isnan(found(flat, other)).all()
        assert np.isnan(found(other, flat)).all()
    assert np.isnan(rank_accuracy(flat, flat)).all()


@pytest.mark.parametrize(("high", "wide"), [(8, 4), (5, 7), (16, 16)])
def test_pictures_are_taken_down_as_maps_are(high, wide):
    images = maps(0)
    wanted = adaptive_avg_pool2d(torch.from_numpy(images), (high, wide)).numpy()
    assert np.allclose(taken_down(images, high, wide), wanted)
    colours = np.stack([images, 2 * images], axis=-1)
    assert np.allclose(taken_down(colours, high, wide)[..., 1], 2 * wanted)
