"""Arithmetic of Gram matrices against the features they are of."""

import numpy as np
import pytest
from clouds import gaussian, shapes
from stage import FAMILY, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.geometry import (
    before_the_answer,
    chance,
    coordinates,
    correlations,
    cosine_distances,
    half_sample_error,
    halves,
    in_parts,
    shared_layers,
    shuffles,
    squared_distances,
    u_centred,
)


def apart(x: np.ndarray) -> np.ndarray:
    return np.square(x[:, None] - x[None]).sum(-1)


def test_distances_are_those_of_the_features():
    x = gaussian(9, 4) + 3
    np.testing.assert_allclose(squared_distances(shapes(x).grams), apart(x), atol=1e-12)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(cosine_distances(shapes(x)), apart(unit), atol=1e-12)


def test_an_image_without_features_stays_at_the_origin():
    x = gaussian(5, 3)
    x[:2] = 0
    found = cosine_distances(shapes(x))
    np.testing.assert_allclose(found[0], [0, 0, 1, 1, 1], atol=1e-12)


def test_a_half_sample_is_centred_anew():
    x, rows = gaussian(10, 3), np.array([1, 4, 5, 8])
    some = shapes(x).of(rows)
    np.testing.assert_allclose(some.grams, shapes(x[rows]).grams, atol=1e-12)
    np.testing.assert_allclose(some.norms, shapes(x[rows]).norms)


def test_coordinates_have_the_layers_inner_products_and_no_more_columns_than_directions():
    layer = shapes(gaussian(20, 4))
    found = coordinates(layer)
    assert found.shape == (20, 4)
    np.testing.assert_allclose(found @ found.T, layer.grams, atol=1e-10)
    assert (np.diff(np.linalg.norm(found, axis=0)) <= 0).all(), "largest first"


def test_a_share_of_the_variance_is_held_by_the_fewest_directions():
    x = gaussian(60, 5)
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt([50, 30, 15, 4, 1])
    layer = shapes(x)
    for share, wanted in ((0.5, 1), (0.51, 2), (0.8, 2), (0.81, 3), (0.96, 4), (1.0, 5)):
        assert coordinates(layer, share).shape[1] == wanted
    assert coordinates(layer, 1.0, 3).shape[1] == 3
    pair = coordinates(shapes(x, gaussian(60, 1)))
    assert pair.shape == (2, 60, 5)
    assert not pair[1, :, 1:].any(), "the layer of one direction has columns of zeros"


def test_the_jackknife_gives_the_textbook_error_of_a_mean():
    values = gaussian(101, 1)[:, 0]
    rows = halves(101, 2000, np.random.default_rng(0))
    assert {len(set(some)) for some in rows} == {50}
    found = half_sample_error(lambda some: values[some].mean(), rows, 101)
    assert float(found) == pytest.approx(values.std(ddof=1) / 101**0.5, rel=0.05)


def test_shuffles_are_orders_and_parts_are_all_of_them():
    orders = shuffles(12, 70, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(12), (70, 1)))
    assert len({tuple(order) for order in orders}) == 70
    np.testing.assert_array_equal(np.concatenate(list(in_parts(orders))), orders)


def test_chance_is_named():
    asked = scope(made_up(FAMILY))
    one, two, other = (chance(asked, purpose).random() for purpose in (25, 25, 26))
    assert one == two != other


def test_u_centred_matrices_have_no_row_sum_and_no_diagonal():
    found = u_centred(np.sqrt(apart(gaussian(8, 3))))
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-12)
    assert not np.diag(found).any()
    np.testing.assert_allclose(found, found.T)


def test_rows_of_zeros_correlate_with_nothing():
    found = correlations(np.array([[1.0, 0, 0], [-2, 0, 0], [0, 0, 0], [1, 1, 0]]))
    np.testing.assert_allclose(found[0], [1, -1, np.nan, 0.5**0.5])
    assert np.isnan(found[2]).all()


def test_features_that_point_the_same_way_are_no_cosine_apart():
    for offset in (2.0, 1e4):
        x = np.abs(gaussian(9, 1)) + offset
        assert not cosine_distances(shapes(x)).any()
        assert not cosine_distances(shapes(x * np.ones(7) / 3)).any()


def test_layers_are_those_that_all_networks_have():
    study = made_up(FAMILY)
    names = {"teacher": ("a", "b", "logits"), "baseline0": ("b", "logits"), "kd0": ("logits", "b")}
    asked = scope(study, similarity_layers=names)
    assert shared_layers(asked, study.runs) == ("b", "logits")
    asked = scope(study, similarity_layers=names | {"kd0": ("c",)})
    with pytest.raises(NotApplicable, match=r"needs layers of one name .* found a, b, logits"):
        shared_layers(asked, study.runs)


def test_effects_are_shown_before_the_logits():
    assert before_the_answer(("a", "pooled", "logits")) == 1
    assert before_the_answer(("logits",)) == 0
