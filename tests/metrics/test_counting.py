"""Counts by hand, AUROC against scikit-learn, the error of a count against simulation."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kdprobe.metrics.counting import ConceptCount, count, half_sample_error, separation
from kdprobe.metrics.discarding import background_level, concepts


def maps(n: int = 6, g: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    on = chance.random((n, g, g)) < 0.3
    return chance.normal(size=(n, g, g)) - 0.8 * on, on


def counted(h: np.ndarray, on: np.ndarray, thresholds: list[float]) -> ConceptCount:
    """Of an exact map: no entropy has an error."""
    return count(h, np.zeros_like(h), np.zeros((0, *h.shape)), on, thresholds)


def test_counts_are_those_of_a_loop():
    h, on = maps()
    found = counted(h, on, [0.2, 1.0])
    level = np.mean([image[~mask].mean() for image, mask in zip(h, on, strict=True)])
    assert found.level == pytest.approx(level)
    for t, b in enumerate((0.2, 1.0)):
        for i in range(6):
            kept = [(r, c) for r in range(8) for c in range(8) if level - h[i, r, c] > b]
            inside = sum(bool(on[i, r, c]) for r, c in kept)
            assert found.foreground[t, i] == inside
            assert found.background[t, i] == len(kept) - inside
    ratios = found.foreground / (found.foreground + found.background)
    np.testing.assert_allclose(found.share, ratios.mean(1))
    assert (found.share >= 0).all()
    assert (found.share <= 1).all()


def test_an_image_without_concepts_has_no_share():
    h, on = maps(n=2)
    h[1] = h[1].mean()
    found = counted(h, on, [1.5, 99.0])
    own = found.foreground[0, 0] / (found.foreground[0, 0] + found.background[0, 0])
    assert found.share[0] == pytest.approx(own)
    assert np.isnan(found.share[1]), "0 / 0 is no number"


def test_higher_thresholds_never_count_more():
    h, on = maps()
    found = counted(h, on, [0.2, 0.5, 1.0, 1.5, 2.0])
    assert (np.diff(found.foreground, axis=0) <= 0).all()
    assert (np.diff(found.background, axis=0) <= 0).all()


def test_a_shift_of_all_entropies_cancels():
    h, on = maps()
    one, two = (counted(h + shift, on, [0.2]) for shift in (0.0, 9.0))
    assert (one.foreground == two.foreground).all()
    np.testing.assert_allclose(one.auroc, two.auroc)


def test_auroc_is_that_of_scikit_learn():
    h, on = maps()
    h = np.round(h, 1)  # with ties
    wanted = [roc_auc_score(m.ravel(), -x.ravel()) for x, m in zip(h, on, strict=True)]
    np.testing.assert_allclose(separation(h, on), wanted)


def test_auroc_of_a_perfect_and_an_upside_down_map():
    _, on = maps()
    np.testing.assert_allclose(separation(-on.astype(float), on), 1)
    np.testing.assert_allclose(separation(on.astype(float), on), 0)
    np.testing.assert_allclose(separation(np.zeros(on.shape), on), 0.5)


def test_auroc_needs_object_background_and_a_live_layer():
    h, on = maps(n=4)
    on[0], on[1] = True, False
    h[2] = np.nan
    found = separation(h, on)
    assert np.isnan(found[:3]).all()
    assert not np.isnan(found[3])


def test_dead_images_are_counted_and_have_no_count():
    h, on = maps()
    h[2] = np.nan
    found = counted(h, on, [0.2])
    assert found.dead_images == 1
    assert np.isnan([found.foreground[0, 2], found.background[0, 2]]).all()
    assert np.isfinite(np.delete(found.foreground[0], 2)).all()
    rest = [i for i in range(6) if i != 2]
    assert found.level == pytest.approx(float(background_level(h[rest], on[rest])))


def test_the_error_of_a_count_is_that_of_a_simulation():
    """Groups of probes that all images share: each is off in its own way, everywhere."""
    h, on = maps(n=4, g=16)
    thresholds, groups = [0.2, 1.0], 4
    pattern = np.random.default_rng(3).normal(size=(24, *h.shape))  # shared by all draws
    means, told = [], []
    for seed in range(300):
        mixed = np.random.default_rng(seed).normal(size=(groups, 24)) * 0.04
        off = np.einsum("ug,gnij->unij", mixed, pattern)
        halves = h + np.stack([off[list(two)].mean(0) for two in combinations(range(groups), 2)])
        again = concepts(h + off.mean(0), background_level(h + off.mean(0), on), thresholds)
        means.append([(again & side).sum((-2, -1)).mean(-1) for side in (on, ~on)])
        told.append(half_sample_error(halves, on, thresholds) ** 2)
    root_mean = np.sqrt(np.mean(told, axis=0))
    np.testing.assert_allclose(root_mean, np.std(means, axis=0).T, rtol=0.15)


def test_an_exact_map_has_no_error():
    h, on = maps()
    assert (counted(h, on, [0.2]).count_error == 0).all()
    assert counted(h, on, [0.2]).entropy_error == 0
    halves = h + np.random.default_rng(1).normal(size=(4, *h.shape))
    assert (count(h, np.ones_like(h), halves, on, [0.2]).count_error > 0).all()
    assert count(h, np.full_like(h, 0.3), halves, on, [0.2]).entropy_error == pytest.approx(0.3)
