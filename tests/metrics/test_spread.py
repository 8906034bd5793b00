"""Dimensions of clouds whose dimension is known."""

import numpy as np
import pytest
from clouds import gaussian, rotation, shapes

from kdprobe.metrics.geometry import Shapes
from kdprobe.metrics.spread import (
    dimensions,
    effective_rank,
    isotropic,
    mle,
    nearest,
    participation,
    straightened,
    two_nn,
)


def cube(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, d))


def test_equal_eigenvalues_count_as_many_as_they_are_and_unequal_ones_as_fewer():
    values = np.array([[3.0, 3, 3, 0, 0], [3, 0, 0, 0, 0], [4, 2, 1, 1, 0]])
    np.testing.assert_allclose(effective_rank(values), [3, 1, 2**1.75])
    np.testing.assert_allclose(participation(values), [3, 1, 64 / 22])
    assert np.isnan(effective_rank(np.zeros(4)))
    assert np.isnan(participation(np.zeros(4)))


def test_images_that_are_all_as_far_apart_fill_all_directions_there_can_be():
    simplex = shapes(np.eye(20))
    rank, ratio, _, _ = dimensions(simplex, 3)
    assert rank == pytest.approx(19)
    assert ratio == pytest.approx(19)


@pytest.mark.parametrize(("n", "d"), [(101, 20), (41, 400), (65, 64), (129, 1)])
def test_a_gaussian_of_equal_variances_has_the_spectrum_of_wishart_matrices(n, d):
    clouds = shapes(*(gaussian(n, d, seed) for seed in range(60)))
    rank, ratio, _, _ = dimensions(clouds, 3)
    wanted = isotropic(n, np.array(d))
    assert rank.mean() == pytest.approx(wanted[0] if d > 1 else 1, rel=0.02)
    assert ratio.mean() == pytest.approx(wanted[1], rel=0.02)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_a_cube_has_its_dimension_within_the_bias_of_its_edges(d):
    clouds = shapes(*(cube(300, d, seed) for seed in range(30)))
    _, _, two, many = dimensions(clouds, 8)
    assert two.mean() == pytest.approx(d, rel=0.08)
    assert many.mean() == pytest.approx(d, rel=0.12)
    assert two.std() < d / 4


def test_a_curved_surface_has_fewer_dimensions_than_directions():
    angles = 2 * np.pi * cube(300, 2)
    torus = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    rank, _, two, many = dimensions(shapes(torus), 8)
    assert rank == pytest.approx(4, rel=0.02)
    assert two == pytest.approx(2, rel=0.15)
    assert many == pytest.approx(2, rel=0.1)
    straight = straightened(shapes(torus), 8, 4, np.random.default_rng(0))
    assert (straight > 3).all(), "a Gaussian of the same covariance has four"


def test_ratios_that_follow_the_law_give_its_exponent_without_bias():
    chance = np.random.default_rng(0)
    logs = chance.exponential(1 / 5.0, size=(4000, 50))
    near = np.stack([np.zeros_like(logs), logs], axis=-1)
    found = two_nn(near)
    assert found.mean() == pytest.approx(5, abs=4 * found.std() / 4000**0.5)
    powers = np.sort(chance.exponential(1 / 5.0, size=(4000, 50, 9)), axis=-1)[..., ::-1]
    near = np.concatenate([-powers, np.zeros((4000, 50, 1))], axis=-1)
    found = mle(near)
    assert found.mean() == pytest.approx(5, abs=4 * found.std() / 4000**0.5)


def test_the_largest_tenth_of_the_ratios_does_not_matter():
    logs = np.random.default_rng(0).exponential(size=40)
    near = np.stack([np.zeros(40), logs], axis=-1)
    far = np.where(logs >= np.sort(logs)[36], 1e3, logs)
    assert two_nn(np.stack([np.zeros(40), far], axis=-1)) == pytest.approx(two_nn(near))
    kept = np.sort(logs)[:36]
    assert two_nn(near) == pytest.approx(35 / (kept.sum() + 4 * kept[-1]))


def test_neighbours_are_those_of_another_library():
    neighbors = pytest.importorskip("sklearn.neighbors")
    x = gaussian(40, 5)
    found = neighbors.NearestNeighbors(n_neighbors=6).fit(x).kneighbors()[0]
    np.testing.assert_allclose(np.exp(nearest(shapes(x).grams, 6)), found)


def test_turning_scaling_moving_and_reordering_change_nothing():
    x = np.concatenate([cube(60, 3), gaussian(60, 4) ** 2], axis=1)
    plain = dimensions(shapes(x), 5)
    order = np.random.default_rng(0).permutation(60)
    changed = dimensions(shapes((9 * x @ rotation(7) + 3)[order]), 5)
    np.testing.assert_allclose(changed, plain)


def test_stacks_are_the_layers_one_by_one():
    several = [gaussian(40, d, d) for d in (1, 3, 60)]
    found = dimensions(shapes(*several), 5)
    for place, x in enumerate(several):
        np.testing.assert_allclose(found[:, place], dimensions(shapes(x), 5))


def test_one_feature_is_one_dimension():
    rank, ratio, two, many = dimensions(shapes(cube(200, 1)), 8)
    assert (rank, ratio) == (pytest.approx(1), pytest.approx(1))
    assert two == pytest.approx(1, rel=0.3)
    assert many == pytest.approx(1, rel=0.2)


def test_equal_images_are_left_out_and_too_few_others_have_no_dimension():
    x = cube(60, 3)
    twins = np.concatenate([x, x[:8] * (1 + 1e-9)])
    near = nearest(shapes(twins).grams, 5)
    assert np.isneginf(near[:8, 0]).all()
    assert np.isfinite(near[8:60]).all()
    assert two_nn(near) == pytest.approx(two_nn(near[8:60]))
    assert mle(near) == pytest.approx(mle(near[8:60]))
    _, _, two, many = dimensions(shapes(np.concatenate([x[:30]] * 2)), 5)
    assert np.isnan([two, many]).all()


def test_a_constant_layer_has_no_dimension():
    still = Shapes(np.zeros((20, 20)), np.ones(20))
    assert np.isnan(dimensions(still, 5)).all()
    assert np.isnan(straightened(still, 5, 2, np.random.default_rng(0))).all()


def test_a_gaussian_is_as_straight_as_itself():
    unequal = np.array([4, 2, 2, 1, 0.5, 0.1])
    clouds = shapes(*(gaussian(80, 6, seed) * unequal for seed in range(40)))
    found = dimensions(clouds, 8)[2:]
    straight = straightened(clouds, 8, 40, np.random.default_rng(0))  # draws that the clouds share
    np.testing.assert_allclose(straight.mean(1), found.mean(1), rtol=0.06)
