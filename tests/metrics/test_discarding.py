"""Entropies from energies: closed forms, laws, and what is said of dead layers and absent units."""

import math

import numpy as np
import pytest

from kdprobe.metrics.discarding import background_level, background_sd, concepts, entropy

HALF_LOG = 0.5 * math.log(2 * math.pi * math.e)
NOISE = 0.01


def energies(seed: int = 0, shape=(3, 16)) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, size=shape)


def test_equal_units_have_the_entropy_of_one_normal():
    h = entropy(np.full(16, 7.0), lam=6.0, noise=NOISE)
    np.testing.assert_allclose(h, HALF_LOG + math.log(NOISE * math.sqrt(6.0 / 2)))


def test_at_the_optimum_the_feature_loss_is_half_of_lam():
    g = energies()
    s = np.exp(entropy(g, 6.0, NOISE) - HALF_LOG)
    loss = (s**2 * g).sum(1) / (NOISE**2 * g.sum(1))
    np.testing.assert_allclose(loss, 3.0)


@pytest.mark.parametrize("absent", [(), (3, 7)])
def test_the_slope_of_the_loss_is_zero_at_the_optimum(absent):
    g, lam = energies(shape=(16,)), 6.0
    has = ~np.isin(np.arange(16), absent)
    g = g * has

    def loss(log_s: np.ndarray) -> float:
        distortion = (np.exp(2 * log_s[has]) * g[has]).sum() / (NOISE**2 * g.sum())
        return float(distortion - lam * (log_s[has] + HALF_LOG).mean())

    best = entropy(g, lam, NOISE, has) - HALF_LOG
    assert np.isnan(best[~has]).all()
    for unit in np.flatnonzero(has):
        step = np.zeros(16)
        step[unit] = 1e-4
        assert abs(loss(best + step) - loss(best - step)) / 2e-4 < 1e-7
        assert loss(best + 100 * step) > loss(best)


def test_lam_and_the_units_move_all_alike_or_not_at_all():
    g = energies()
    np.testing.assert_allclose(entropy(g, 12.0, NOISE) - entropy(g, 6.0, NOISE), math.log(2) / 2)
    np.testing.assert_allclose(entropy(g, 6.0, 2 * NOISE) - entropy(g, 6.0, NOISE), math.log(2))
    np.testing.assert_allclose(entropy(1e6 * g, 6.0, NOISE), entropy(g, 6.0, NOISE))


def test_four_times_the_energy_is_log_two_nats_less():
    g = np.ones(16)
    g[0] = 4
    h = entropy(g, 6.0, NOISE)
    assert h[5] - h[0] == pytest.approx(math.log(2))


def test_a_unit_without_energy_is_finite_and_a_dead_image_is_not_a_number():
    g = energies()
    g[0, 0] = 0
    g[1] = 0
    h = entropy(g, 6.0, NOISE)
    assert np.isfinite(h[0]).all()
    assert h[0, 0] == h[0].max() > 10
    assert np.isnan(h[1]).all()
    assert np.isfinite(h[2]).all()


def test_units_that_an_image_lacks_have_no_say():
    g, has = energies(shape=(2, 6)), np.ones((2, 6), dtype=bool)
    has[1, 4:] = False
    g[1, 4:] = 0
    h = entropy(g, 6.0, NOISE, has)
    assert np.isnan(h[1, 4:]).all()
    np.testing.assert_allclose(h[1, :4], entropy(g[1, :4], 6.0, NOISE))
    np.testing.assert_allclose(h[0], entropy(g[0], 6.0, NOISE))
    assert np.isnan(entropy(g, 6.0, NOISE, np.zeros_like(has))).all()


def test_the_level_is_a_mean_of_means_over_images():
    h = np.arange(18.0).reshape(2, 9)
    off = np.ones((2, 9), dtype=bool)
    off[0, :6] = False
    own = [h[0, 6:].mean(), h[1].mean()]
    np.testing.assert_allclose(background_level(h, off), np.mean(own))
    assert background_level(h, off).shape == (2,)
    np.testing.assert_allclose(background_level(h, off, "image"), own)
    several = background_level(np.stack([h, h + 5]), off)
    np.testing.assert_allclose(several, [[np.mean(own)] * 2, [np.mean(own) + 5] * 2])


def test_dead_images_and_images_without_background_have_no_say_in_the_level():
    h = np.arange(27.0).reshape(3, 9)
    h[0] = np.nan
    off = np.ones((3, 9), dtype=bool)
    off[1] = False
    np.testing.assert_allclose(background_level(h, off), h[2].mean())
    own = background_level(h, off, "image")
    assert np.isnan(own[:2]).all()
    assert own[2] == h[2].mean()


@pytest.mark.parametrize("kind", ["data", "image"])
def test_without_any_background_there_is_no_level_and_no_concept(kind):
    h, off = np.zeros((2, 9)), np.zeros((2, 9), dtype=bool)
    level = background_level(h - 5, off, kind)
    assert np.isnan(level).all()
    assert not concepts(h - 5, level, [0.2]).any()


def test_the_spread_of_the_background_is_within_images():
    h = np.array([[0.0, 2.0, 50.0], [10.0, 10.0, np.nan], [1.0, 5.0, 9.0]])
    off = np.array([[True, True, False], [True, True, True], [False, False, False]])
    assert background_sd(h, off) == pytest.approx(math.sqrt((1 + 0) / 2))


def test_a_concept_is_kept_by_strictly_more_than_the_threshold():
    h = np.array([[-0.5, -0.25, 0.0, np.nan]])
    found = concepts(h, np.zeros(1), [0.25, 0.1])
    assert found.shape == (2, 1, 4)
    assert found[0, 0].tolist() == [True, False, False, False]
    assert found[1, 0].tolist() == [True, True, False, False]


def test_every_image_has_its_level():
    h = np.zeros((2, 3))
    found = concepts(h, np.array([1.0, 0.1]), [0.5])
    assert found[0].tolist() == [[True] * 3, [False] * 3]


def test_concepts_are_units_of_enough_energy_over_the_backgrounds_geometric_mean():
    g, b = energies(shape=(5, 64)), 0.2
    off = np.arange(64) >= 32
    h = entropy(g, 6.0, NOISE)
    wanted = g > math.exp(2 * b) * np.exp(np.log(g[:, off]).mean(1, keepdims=True))
    level = background_level(h, np.broadcast_to(off, g.shape), "image")
    assert (concepts(h, level, [b])[0] == wanted).all()
