"""Every measure of likeness against its definition on features, and held to its label."""

import numpy as np
import pytest
from clouds import gaussian, rotation, shapes

from kdprobe.metrics.measures import INVARIANCES, MEASURES, Choice

KEYS = list(MEASURES)
USUAL = Choice()


def likeness(key: str, x: np.ndarray, y: np.ndarray, choice: Choice = USUAL) -> float:
    measure = MEASURES[key]
    one, two = (measure.describe(shapes(side), choice) for side in (x, y))
    return float(measure.compare(one, two))


def cloud(seed: int = 0, n: int = 120) -> np.ndarray:
    """Directions of unequal variance, away from the origin."""
    return gaussian(n, 6, seed) * np.array([3, 2, 1.5, 1, 0.3, 0.05]) + 1


def related() -> tuple[np.ndarray, np.ndarray]:
    x = cloud()
    return x, np.tanh(x @ gaussian(6, 8, 3) / 3) + 0.3 * gaussian(120, 8, 4)


CHANGES = {
    "orthogonal": lambda x: x @ rotation(x.shape[1], 5),
    "permutation": lambda x: x[:, ::-1],
    "scaling": lambda x: 7.5 * x,
    "translation": lambda x: x + 4 * np.arange(x.shape[1]),
    "linear": lambda x: x @ (rotation(x.shape[1], 6) * np.geomspace(0.02, 5, x.shape[1])),
}


@pytest.mark.parametrize("change", INVARIANCES)
@pytest.mark.parametrize("key", KEYS)
def test_a_measure_sees_exactly_what_it_does_not_declare(key, change):
    x, y = related()
    plain = likeness(key, x, y)
    for changed in (likeness(key, CHANGES[change](x), y), likeness(key, x, CHANGES[change](y))):
        if change in MEASURES[key].invariances:
            assert changed == pytest.approx(plain, abs=1e-9)
        else:
            assert abs(changed - plain) > 1e-3


def test_labels_name_known_invariances():
    assert all(set(m.invariances) < set(INVARIANCES) for m in MEASURES.values())
    assert all(m.source and m.definition and m.key == key for key, m in MEASURES.items())


@pytest.mark.parametrize("key", KEYS)
def test_a_layer_is_one_with_itself_and_pairs_are_symmetric_and_in_range(key):
    x, y = related()
    measure = MEASURES[key]
    assert likeness(key, x, x) == pytest.approx(1, abs=1e-6)
    assert likeness(key, x, y) == pytest.approx(likeness(key, y, x), abs=1e-9)
    low, high = measure.range
    for seed in range(5):
        found = likeness(key, cloud(seed, 30), gaussian(30, 3, 50 + seed), Choice(k=3))
        assert low <= found <= high


@pytest.mark.parametrize("key", KEYS)
def test_unrelated_layers_are_far_less_alike_than_related_ones(key):
    x, y = related()
    assert likeness(key, x, y) > likeness(key, x, cloud(9)) + 0.2


@pytest.mark.parametrize("key", KEYS)
def test_stacks_and_shuffles_are_the_pairs_one_by_one(key):
    measure, choice = MEASURES[key], Choice(k=4)
    x, several = cloud(0, 30), [gaussian(30, d, d) for d in (2, 5, 40)]
    theirs = measure.describe(shapes(x), choice)
    found = measure.compare(theirs, measure.describe(shapes(*several), choice))
    np.testing.assert_allclose(found, [likeness(key, x, y, choice) for y in several], atol=1e-9)
    orders = np.stack([np.random.default_rng(s).permutation(30) for s in range(3)])
    ours = measure.describe(shapes(several[1]), choice)
    found = measure.compare(measure.shuffled(theirs, orders), ours)
    wanted = [likeness(key, x[order], several[1], choice) for order in orders]
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert np.ptp(found) > 0


def principal(x: np.ndarray, share: float) -> np.ndarray:
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(s**2) / np.sum(s**2), share)) + 1
    return u[:, :kept] * s[:kept]


def canonical(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations and canonical variates of x (n, i), by the eigenvalues of the definition."""
    xx, yy, xy = x.T @ x, y.T @ y, x.T @ y
    values, vectors = np.linalg.eig(np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.T))
    order = np.argsort(-values.real)[: min(x.shape[1], y.shape[1])]
    variates = x @ vectors.real[:, order]
    return np.sqrt(values.real[order]), variates / np.linalg.norm(variates, axis=0)


@pytest.mark.parametrize("share", [0.9, 0.99])
def test_canonical_correlations_are_those_of_their_definition(share):
    x, y = (principal(side, share) for side in related())
    rho, variates = canonical(x, y)
    back, others = canonical(y, x)
    np.testing.assert_allclose(rho, back)
    choice = Choice(variance=share)
    assert likeness("svcca", *related(), choice) == pytest.approx(rho.mean(), abs=1e-9)
    weights = [np.abs(h.T @ side).sum(1) for h, side in ((variates, x), (others, y))]
    wanted = np.mean([np.average(rho, weights=w) for w in weights])
    assert likeness("pwcca", *related(), choice) == pytest.approx(wanted, abs=1e-9)


def test_canonical_correlations_agree_with_another_library():
    cross = pytest.importorskip("sklearn.cross_decomposition")
    x, y = (principal(side, 0.9) for side in related())
    count = min(x.shape[1], y.shape[1])
    found = cross.CCA(count, scale=False, max_iter=5000, tol=1e-12).fit_transform(x, y)
    rho = [np.corrcoef(a, b)[0, 1] for a, b in zip(found[0].T, found[1].T, strict=True)]
    assert likeness("svcca", *related(), Choice(variance=0.9)) == pytest.approx(
        np.mean(rho), abs=1e-6
    )


def test_too_many_directions_are_cut_so_that_chance_is_told_from_likeness():
    x, y = gaussian(60, 59, 1), gaussian(60, 59, 2)
    whole = np.linalg.svd(np.linalg.qr(x - x.mean(0))[0].T @ np.linalg.qr(y - y.mean(0))[0])[1]
    assert whole.mean() > 0.97, "without a cut, independent layers are all alike"
    assert likeness("svcca", x, y, Choice(variance=1.0)) < 0.5


def test_procrustes_is_the_angle_after_the_best_rotation():
    scipy = pytest.importorskip("scipy.linalg")
    x, y = (side - side.mean(0) for side in related())
    x = np.pad(x, ((0, 0), (0, 2)))
    x, y = (side / np.linalg.norm(side) for side in (x, y))
    turn, scale = scipy.orthogonal_procrustes(x, y)
    cosine = np.sum((x @ turn) * y)
    assert cosine == pytest.approx(scale)
    found = likeness("procrustes", *related())
    assert found == pytest.approx(1 - np.degrees(np.arccos(cosine)) / 90, abs=1e-9)
    flat = np.eye(8)[:, :2] - 0.125, np.eye(8)[:, 4:6] - 0.125
    assert likeness("procrustes", *flat) < likeness("procrustes", flat[0], flat[0])


def test_layers_without_a_common_direction_are_at_a_right_angle():
    wave = 2 * np.pi * np.arange(16) / 16
    one = np.stack([np.cos(wave), np.sin(wave)], 1)
    two = np.stack([np.cos(2 * wave), np.sin(2 * wave)], 1)
    for key in ("svcca", "pwcca", "procrustes"):
        assert likeness(key, one, two, Choice(variance=1.0)) == pytest.approx(0, abs=1e-9)


def test_rsa_is_spearmans_correlation_of_the_distances():
    stats = pytest.importorskip("scipy.stats")
    distance = pytest.importorskip("scipy.spatial.distance")
    x, y = related()
    wanted = stats.spearmanr(distance.pdist(x), distance.pdist(y)).statistic
    assert likeness("rsa", x, y) == pytest.approx(wanted, abs=1e-9)


def test_common_neighbours_are_those_of_another_library():
    neighbours = pytest.importorskip("sklearn.neighbors")

    def nearest(x: np.ndarray) -> list[set[int]]:
        found = neighbours.NearestNeighbors(n_neighbors=10, metric="cosine").fit(x)
        return [set(row) for row in found.kneighbors(return_distance=False)]

    x, y = related()
    shared = [len(a & b) / 10 for a, b in zip(nearest(x), nearest(y), strict=True)]
    assert likeness("knn", x, y) == pytest.approx(np.mean(shared))


def test_neighbours_by_chance_are_one_in_so_many():
    found = [likeness("knn", gaussian(100, 5, s), gaussian(100, 5, 99 - s)) for s in range(20)]
    assert np.mean(found) == pytest.approx(10 / 99, abs=4 * np.std(found) / 20**0.5)


@pytest.mark.parametrize("key", KEYS)
def test_layers_of_one_feature_are_alike_where_they_rise_together(key):
    x = gaussian(40, 1)
    assert likeness(key, x, 2 * x, Choice(k=3)) == pytest.approx(1, abs=1e-6)
    assert likeness(key, x, gaussian(40, 1, 1), Choice(k=3)) < 0.7
