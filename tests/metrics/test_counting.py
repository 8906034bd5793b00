"""Counts by hand, AUROC and average precision against scikit-learn, errors against simulation."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kdprobe.metrics.counting import (
    IN_SD,
    ConceptCount,
    Estimates,
    agreement,
    area,
    average_precision,
    count,
    count_error,
    log_odds,
    separation,
    sides,
    unstable,
)
from kdprobe.metrics.discarding import background_level, background_sd, concepts
from kdprobe.metrics.looking import Objects, balanced_halves


def objects_of(on: np.ndarray, present: np.ndarray | None = None) -> Objects:
    present = np.ones_like(on) if present is None else present
    return Objects(on & present, ~on & present, np.zeros(len(on)), None, None, None)


def maps(n: int = 6, q: int = 64, seed: int = 0) -> tuple[np.ndarray, Objects]:
    chance = np.random.default_rng(seed)
    on = chance.random((n, q)) < 0.3
    return chance.normal(size=(n, q)) - 0.8 * on, objects_of(on)


def finder(objects: Objects, thresholds):
    return lambda h: concepts(h, background_level(h, objects.off), thresholds)


def counted(h, objects: Objects, thresholds, replicates=(), restarts=(), **more) -> ConceptCount:
    return count(Estimates(h, replicates, restarts, **more), objects, thresholds)


def test_counts_are_those_of_a_loop():
    h, objects = maps()
    found = counted(h, objects, [0.2, 1.0])
    level = np.mean([image[off].mean() for image, off in zip(h, objects.off, strict=True)])
    assert found.level == pytest.approx(level)
    for t, b in enumerate((0.2, 1.0)):
        for i in range(6):
            kept = [q for q in range(64) if level - h[i, q] > b]
            inside = sum(bool(objects.on[i, q]) for q in kept)
            assert found.foreground[t, i] == inside
            assert found.background[t, i] == len(kept) - inside
    ratios = found.foreground / (found.foreground + found.background)
    np.testing.assert_allclose(found.share, ratios.mean(1))
    assert (found.share >= 0).all()
    assert (found.share <= 1).all()


def parted() -> tuple[np.ndarray, Objects]:
    """Maps of parts: every image lacks some."""
    h, objects = maps(q=10)
    present = np.random.default_rng(5).random(h.shape) < 0.7
    present[:, :2] = True
    on = objects.on.copy()
    on[:, 0], on[:, 1] = True, False
    return np.where(present, h, np.nan), objects_of(on, present)


def test_parts_that_an_image_lacks_count_for_nothing():
    h, objects = parted()
    found = counted(h, objects, [0.2])
    for i in range(6):
        alone = objects.on[i] | objects.off[i]
        level = found.level
        assert found.foreground[0, i] == (level - h[i, alone & objects.on[i]] > 0.2).sum()
        assert found.background[0, i] == (level - h[i, alone & objects.off[i]] > 0.2).sum()
    wrong = [  # a concept in an absent unit would be counted here
        counted(np.where(np.isnan(h), filled, h), objects, [0.2]) for filled in (-99.0, 99.0)
    ]
    for other in wrong:
        np.testing.assert_array_equal(other.foreground, found.foreground)
        np.testing.assert_array_equal(other.background, found.background)
        np.testing.assert_allclose(other.log_odds, found.log_odds)
        np.testing.assert_allclose(other.unstable, found.unstable)
    np.testing.assert_allclose(wrong[0].precision, wrong[1].precision)


def test_an_image_without_concepts_has_no_share():
    h, objects = maps(n=2)
    h[1] = h[1].mean()
    found = counted(h, objects, [1.5, 99.0])
    own = found.foreground[0, 0] / (found.foreground[0, 0] + found.background[0, 0])
    assert found.share[0] == pytest.approx(own)
    assert np.isnan(found.share[1]), "0 / 0 is no number"


def test_a_side_that_an_image_lacks_has_no_count():
    """Image 0 is all object, image 1 all background."""
    h, objects = maps()
    on = objects.on.copy()
    on[0], on[1] = True, False
    found = counted(h, objects_of(on), [0.2])
    assert np.isnan(found.background[:, 0]).all()
    assert np.isnan(found.foreground[:, 1]).all()
    assert np.isfinite(found.foreground[:, 0]).all()
    assert np.isfinite(found.background[:, 1]).all()
    both = counted(h[2:], objects_of(on[2:]), [0.2])
    shifted = counted(h, objects_of(on), [0.2 + found.level - both.level])
    np.testing.assert_allclose(shifted.share, both.share)  # an image of one side has none


def test_masks_that_are_all_full_have_no_background_to_compare_with():
    h, objects = maps()
    full = objects_of(np.ones_like(objects.on))
    found = counted(np.full_like(h, np.nan), full, [0.2])  # as the look gives it
    assert np.isnan(found.foreground).all()
    assert np.isnan(found.background).all()
    assert np.isnan(found.foreground_area).all()


def test_areas_are_of_the_images_that_are_counted():
    counts = np.array([[3.0, np.nan, 1.0]])
    side = np.array([[True] * 4, [True] * 4, [True, True, False, False]])
    assert area(counts, side) == pytest.approx([4 / 6])
    assert np.isnan(area(np.full((1, 3), np.nan), side)).all()
    h, objects = maps()
    h[2] = np.nan
    found = counted(h, objects, [-99.0])
    np.testing.assert_allclose(found.foreground_area, 1)
    np.testing.assert_allclose(found.background_area, 1)
    again, none = np.ones((2, *h.shape), dtype=bool), np.zeros((2, *h.shape), dtype=bool)
    assert np.nansum(sides(again, h, objects)[0]) == 2 * np.delete(objects.on, 2, 0).sum()
    assert np.nansum(sides(none, h, objects)[0]) == 0


def test_each_image_against_its_own_background_also_in_standard_deviations():
    h, objects = maps()
    lifted = h + np.arange(6)[:, None] * 3.0
    one, two = (count(Estimates(maps), objects, [0.2], "image") for maps in (h, lifted))
    for name in ("foreground", "background", "foreground_sd", "background_sd"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_unconverged_maps_are_those_of_live_images():
    h, objects = maps()
    h[2] = np.nan
    flags = np.array([True, False, False, True, True, False])
    assert counted(h, objects, [0.2], converged=flags).unconverged == 2
    assert counted(h, objects, [0.2]).unconverged == 0


def test_higher_thresholds_never_count_more():
    h, objects = maps()
    found = counted(h, objects, [0.2, 0.5, 1.0, 1.5, 2.0])
    for side in (found.foreground, found.background, found.foreground_sd, found.background_sd):
        assert (np.diff(side, axis=0) <= 0).all()


def test_a_shift_of_all_entropies_cancels():
    h, objects = maps()
    one, two = (counted(h + shift, objects, [0.2]) for shift in (0.0, 9.0))
    for name in ("foreground", "background", "foreground_sd", "auroc", "precision", "sd"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name))
    assert two.level == pytest.approx(one.level + 9)


def test_thresholds_in_standard_deviations_do_not_depend_on_the_unit():
    h, objects = maps()
    found, stretched = counted(h, objects, [0.2]), counted(7 * h, objects, [0.2])
    np.testing.assert_array_equal(found.foreground_sd, stretched.foreground_sd)
    np.testing.assert_array_equal(found.share_sd, stretched.share_sd)
    assert stretched.sd == pytest.approx(7 * found.sd)
    sd = math.sqrt(np.mean([image[off].var() for image, off in zip(h, objects.off, strict=True)]))
    assert found.sd == pytest.approx(sd) == pytest.approx(float(background_sd(h, objects.off)))
    for t, threshold in enumerate(IN_SD):
        kept = found.level - h > threshold * sd
        np.testing.assert_array_equal(found.foreground_sd[t], (kept & objects.on).sum(1))
        np.testing.assert_array_equal(found.background_sd[t], (kept & objects.off).sum(1))


# --- without a threshold


def by_sklearn(score, h, objects):
    rows = []
    for image, on, off in zip(h, objects.on, objects.off, strict=True):
        here = on | off
        rows.append(score(on[here], -image[here]))
    return rows


@pytest.mark.parametrize(
    ("ours", "theirs"), [(separation, roc_auc_score), (average_precision, average_precision_score)]
)
@pytest.mark.parametrize("digits", [9, 1, 0])  # without ties, with some, with many
@pytest.mark.parametrize("make", [maps, parted])
def test_areas_are_those_of_scikit_learn(ours, theirs, digits, make):
    h, objects = make()
    h = np.round(h, digits)
    np.testing.assert_allclose(ours(h, objects), by_sklearn(theirs, h, objects))


def test_areas_of_a_perfect_an_upside_down_and_a_flat_map():
    _, objects = maps()
    on = objects.on.astype(float)
    share = on.mean(1)
    for h, separated, precision in ((-on, 1, 1), (on, 0, share), (0 * on, 0.5, share)):
        np.testing.assert_allclose(separation(h, objects), separated)
        np.testing.assert_allclose(average_precision(h, objects), precision)


@pytest.mark.parametrize("area", [separation, average_precision])
def test_areas_need_object_background_and_a_live_layer(area):
    h, objects = maps(n=4)
    on = objects.on.copy()
    on[0], on[1] = True, False
    h[2] = np.nan
    found = area(h, objects_of(on))
    assert np.isnan(found[:3]).all()
    assert not np.isnan(found[3])


def test_log_odds_by_hand():
    on = np.array([[True] * 4 + [False] * 6, [False] * 10, [True] * 10])
    foreground, background = np.array([[3.0, 0.0, 2.0]]), np.array([[2.0, 1.0, 0.0]])
    found = log_odds(foreground, background, objects_of(on))
    assert found[0, 0] == pytest.approx(math.log(3.5 / 1.5) - math.log(2.5 / 4.5))
    assert np.isnan(found[0, 1:]).all(), "without object or background"
    even = log_odds(np.array([[4.0]]), np.array([[6.0]]), objects_of(on[:1]))
    assert even[0, 0] == pytest.approx(math.log(4.5 / 0.5) - math.log(6.5 / 0.5)), "never infinite"


def test_dead_images_are_counted_and_have_no_count():
    h, objects = maps()
    h[2] = np.nan
    found = counted(h, objects, [0.2])
    for side in (found.foreground, found.background, found.foreground_sd, found.log_odds):
        assert np.isnan(side[:, 2]).all()
        assert np.isfinite(np.delete(side, 2, axis=1)).all()
    rest = [i for i in range(6) if i != 2]
    assert found.level == pytest.approx(float(background_level(h[rest], objects.off[rest])[0]))


def test_a_layer_that_is_dead_everywhere_has_no_numbers():
    h, objects = maps()
    found = counted(np.full_like(h, np.nan), objects, [0.2])
    assert np.isnan(found.level)
    assert np.isnan(found.share).all()
    assert (found.unstable == 0).all()


# --- errors from chance


def sets(*units: set[int], q: int = 6) -> np.ndarray:
    """(b=1, n, q): the concepts of every image."""
    found = np.zeros((1, len(units), q), dtype=bool)
    for i, those in enumerate(units):
        found[0, i, sorted(those)] = True
    return found


def test_jaccard_and_unstable_concepts_by_hand():
    replicates = [
        sets({0, 1, 2}, {5}, set()),
        sets({0, 1}, {4}, set()),
        sets({0}, {5}, set()),
        sets({0, 1}, {5}, {1}),
    ]
    first = ((2 / 3 + 0) / 2, (1 / 2 + 0) / 2, (1 / 2 + 1 + 0) / 3)  # 0 / 0 has no say
    np.testing.assert_allclose(agreement(replicates), np.mean(first))
    found = sets({0, 1, 2, 3}, {5}, {1, 2})
    # of four: unit 2 of the first image is found once, 3 never; 5 of the second is found by three
    assert (unstable(found, replicates) == sets({2, 3}, set(), {1, 2})).all()
    assert (unstable(found, replicates[:2]) == sets({3}, set(), {1, 2})).all(), "half is enough"
    assert not unstable(found, []).any()
    assert agreement([]) == [1]


def test_several_thresholds_agree_each_for_itself():
    chance = np.random.default_rng(0)
    found = [chance.random((3, 5, 9)) < 0.4 for _ in range(4)]
    alone = [agreement([one[[b]] for one in found])[0] for b in range(3)]
    np.testing.assert_allclose(agreement(found), alone)


def test_shares_of_unstable_concepts_are_of_all_concepts_that_can_be():
    """Image 0 lacks unit 3: whatever is drawn for it is no concept."""
    h = np.array([[-5.0, -5.0, 0.0, -5.0], [0.0, -5.0, 0.0, 0.0]])
    on = np.array([[True, True, False, False]] * 2)
    present = np.array([[True, True, True, False], [True] * 4])
    objects = objects_of(on, present)
    again = h.copy()
    again[0, 1] = 0.0  # found by one of three
    found = counted(h, objects, [1.0], [h, again], [h, again, again])
    assert found.foreground.sum() + found.background.sum() == 3
    assert found.unstable == pytest.approx([1 / 3])
    assert found.jaccard[0] < 1


def draws(h: np.ndarray, groups: int, seed: int, pattern: np.ndarray) -> np.ndarray:
    """(u, n, q) entropies by every group: all images share the chance, as they share the noise."""
    mixed = np.random.default_rng(seed).normal(size=(groups, len(pattern))) * 0.06
    return h + np.einsum("ug,gnq->unq", mixed, pattern)


@pytest.mark.parametrize("groups", [4, 8])
def test_the_error_of_a_count_is_that_of_fresh_draws(groups):
    """In the mean over many analyses, half-samples tell how far counts of fresh draws scatter."""
    h, objects = maps(n=4, q=256)
    find = finder(objects, [0.2, 1.0])
    pattern = np.random.default_rng(3).normal(size=(24, *h.shape))
    means, told = [], []
    for seed in range(250):
        drawn = draws(h, groups, seed, pattern)
        found = find(drawn.mean(0))
        means.append([(found & side).sum(-1).mean(-1) for side in (objects.on, objects.off)])
        again = [find(drawn[half].mean(0)) for half in balanced_halves(groups)]
        told.append(count_error(again, h, objects) ** 2)
    root_mean = np.sqrt(np.mean(told, axis=0))
    assert root_mean.shape == (2, 2)
    np.testing.assert_allclose(root_mean, np.std(means, axis=0).T, rtol=0.17)


def test_the_error_of_the_entropy_is_that_of_fresh_draws():
    h, objects = maps(n=4, q=64)
    pattern = np.random.default_rng(3).normal(size=(24, *h.shape))
    means, told = [], []
    for seed in range(150):
        drawn = draws(h, 8, seed, pattern)
        means.append(drawn.mean(0))
        again = [drawn[half].mean(0) for half in balanced_halves(8)]
        told.append(counted(means[-1], objects, [0.2], again).entropy_error ** 2)
    off = np.sqrt(np.mean((np.stack(means) - h) ** 2))
    assert np.sqrt(np.mean(told)) == pytest.approx(off, rel=0.08)


def test_agreement_is_that_of_two_fresh_estimates():
    h, objects = maps(n=4, q=256)
    find = finder(objects, [0.2, 1.0])
    pattern = np.random.default_rng(3).normal(size=(200, *h.shape)) / 4
    fresh, told = [], []
    for seed in range(60):
        drawn = draws(h, 8, seed, pattern)
        other = draws(h, 8, 1000 + seed, pattern)
        fresh.append(agreement([find(drawn.mean(0)), find(other.mean(0))]))
        told.append(agreement([find(drawn[half].mean(0)) for half in balanced_halves(8)]))
    found, wanted = np.mean(told, axis=0), np.mean(fresh, axis=0)
    assert (wanted < 0.97).all(), "there is something to disagree on"
    np.testing.assert_allclose(1 - found, 1 - wanted, rtol=0.1)


def test_unstable_concepts_are_found_again_less_often():
    """Fresh estimates find far fewer of the unstable concepts than of the stable ones."""
    h, objects = maps(n=4, q=256)
    find = finder(objects, [0.2, 1.0])
    pattern = np.random.default_rng(3).normal(size=(200, *h.shape)) / 4
    found_again = {True: [0, 0], False: [0, 0]}
    for seed in range(30):
        drawn, fresh = (draws(h, 8, seed + start, pattern) for start in (0, 1000))
        found, other = find(drawn.mean(0)), find(fresh.mean(0))
        shaky = unstable(found, [find(group) for group in drawn])
        for kind in (True, False):
            which = shaky if kind else found & ~shaky
            found_again[kind][0] += int((which & other).sum())
            found_again[kind][1] += int(which.sum())
    stable, unsure = (found_again[kind][0] / found_again[kind][1] for kind in (False, True))
    assert found_again[True][1] > 50
    assert unsure < 0.65 < 0.85 < stable


def test_an_exact_map_has_no_error():
    h, objects = maps()
    exact = counted(h, objects, [0.2, 1.0])
    assert (exact.count_error == np.zeros((2, 2))).all()
    assert (exact.jaccard == 1).all()
    assert (exact.unstable == 0).all()
    assert exact.entropy_error == 0
    shaken = h + np.random.default_rng(1).normal(size=(4, *h.shape))
    rough = counted(h, objects, [0.2, 1.0], list(shaken), list(shaken))
    assert (rough.count_error > 0).all()
    assert (rough.jaccard < 1).all()
    assert (rough.unstable > 0).all()
    np.testing.assert_array_equal(rough.foreground, exact.foreground)
    assert rough.entropy_error == pytest.approx(np.sqrt(shaken.var(0).mean()))
