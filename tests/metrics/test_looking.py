"""What concepts have to see: the sights, replicates of chance, and the paper's filter of images."""

import numpy as np
import pytest
from stage import FAMILY, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.discarding import entropy
from kdprobe.metrics.looking import ConceptLook, balanced_halves, learners
from kdprobe.metrics.scope import Discarding

N, Q = 3, 6
FLAT = Discarding()


def how(study=None, **changes) -> ConceptLook:
    study = study or made_up(FAMILY)
    cut = Discarding(**changes)
    return ConceptLook(scope(study, layers=("logits",), discarding=cut), study)


def shown(look: ConceptLook, coverage: np.ndarray, sizes: np.ndarray | None = None):
    sizes = np.ones_like(coverage) if sizes is None else sizes
    return {look.pictures: {"coverage": coverage, "sizes": sizes, "labels": np.zeros(N)}}


def halved() -> np.ndarray:
    """(n, q) coverage: the first half of the units is the object."""
    return np.broadcast_to((np.arange(Q) < Q // 2).astype(float), (N, Q))


def test_masks_are_needed_but_for_the_centre():
    study = made_up(FAMILY)
    with pytest.raises(NotApplicable, match="needs object masks; data set 'noise' has none"):
        ConceptLook(scope(study, has_masks=False), study)
    cut = Discarding(object="centre")
    look = ConceptLook(scope(study, has_masks=False, discarding=cut), study)
    assert dict(look.pictures.settings)["object"] == "centre"


def test_one_sight_a_checkpoint_whoever_asks():
    study = made_up(FAMILY)
    sights = {how(study).at(c) for run in study.runs for c in run.checkpoints}
    assert len(sights) == 9
    assert how(study).at(study.runs[0].last) in sights


@pytest.mark.parametrize("estimator", ["jacobian", "fit", "paper"])
def test_the_estimator_is_asked_with_its_settings(estimator):
    look = how(estimator=estimator, probes=64, noises=8, steps=99, restarts=3)
    wanted = look.at(look.study.runs[0].last)
    assert wanted.probe == estimator
    settings = dict(wanted.settings)
    assert settings == {"layers": ("logits",), **look.scope.discarding.asked}
    assert wanted.images == look.scope.images


def test_learners_share_their_epochs():
    runs, epochs = learners(made_up(FAMILY))
    assert [run.id for run in runs] == ["baseline0", "kd0"]
    assert epochs == (0, 1, 2)
    with pytest.raises(NotApplicable, match="this study has only a teacher"):
        learners(made_up(FAMILY[:1]))
    with pytest.raises(NotApplicable, match=r"at least two checkpoints .* found 1"):
        learners(made_up(FAMILY, epochs=(4,)))


def test_a_unit_is_on_the_object_from_half_covered_and_nowhere_where_it_is_absent():
    look = how()
    coverage = np.array([[0.0, 0.49, 0.5, 1.0, 0.0, 1.0]])
    sizes = np.array([[4.0, 4, 4, 4, 0, 0]])
    found = look.objects(shown(look, coverage, sizes))
    assert found.on[0].tolist() == [False, False, True, True, False, False]
    assert found.off[0].tolist() == [True, True, False, False, False, False]
    assert found.pixels is found.mask is found.members is None


# --- replicates


@pytest.mark.parametrize("groups", [2, 4, 8, 16])
def test_halves_are_balanced_and_their_deviations_uncorrelated(groups):
    """H H' is the identity, but for halves and their rests, which are opposite."""
    halves = balanced_halves(groups)
    assert len(halves) == 2 * (groups - 1)
    assert {len(half) for half in halves} == {groups // 2}
    signs = np.stack([np.where(np.isin(np.arange(groups), half), 1, -1) for half in halves])
    one = np.eye(groups - 1, dtype=int)
    np.testing.assert_array_equal(signs @ signs.T / groups, np.block([[one, -one], [-one, one]]))
    np.testing.assert_array_equal(signs.sum(1), 0)
    if groups > 2:
        np.testing.assert_array_equal(signs.sum(0), 0)


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_a_mean_is_as_far_from_the_truth_as_its_halves_are_from_it(groups):
    """In every draw the mean square over the halves estimates the variance of the mean (McCarthy
    1969): for a linear statistic it is exactly s^2 / u."""
    values = np.random.default_rng(0).normal(size=(groups, 5))
    halves = np.stack([values[half].mean(0) for half in balanced_halves(groups)])
    square = ((halves - values.mean(0)) ** 2).mean(0)
    np.testing.assert_allclose(square, values.var(0, ddof=1) / groups)
    np.testing.assert_allclose(halves.mean(0), values.mean(0))


def seen_by(look: ConceptLook, found: dict[str, np.ndarray]):
    study = look.study
    sights = {look.at(c): found for run in study.runs for c in run.checkpoints}
    return {**sights, **shown(look, halved())}


def test_replicates_of_energies_are_means_of_halves_of_the_groups():
    look, chance = how(), np.random.default_rng(0)
    groups = chance.gamma(2.0, size=(4, N, Q))
    seen = seen_by(look, {"energy/logits": groups.mean(0), "groups/logits": groups})
    course = look.study.runs[1].checkpoints
    whole = look.entropies(seen, course, "logits")
    np.testing.assert_allclose(whole[2], entropy(groups.mean(0), FLAT.lam, FLAT.noise))
    found = list(look.replicates(seen, course, "logits"))
    assert len(found) == 6
    for h, half in zip(found, balanced_halves(4), strict=True):
        assert h.shape == (3, N, Q)
        np.testing.assert_allclose(h[1], entropy(groups[half].mean(0), FLAT.lam, FLAT.noise))


def test_replicates_of_a_fit_are_means_of_its_entropies():
    look, groups = how(estimator="fit"), np.random.default_rng(0).normal(size=(4, N, Q))
    seen = seen_by(look, {"entropy/logits": groups.mean(0), "groups/logits": groups})
    last = [look.study.runs[0].last]
    np.testing.assert_array_equal(look.entropies(seen, last, "logits")[0], groups.mean(0))
    for h, half in zip(look.replicates(seen, last, "logits"), balanced_halves(4), strict=True):
        np.testing.assert_allclose(h[0], groups[half].mean(0))


def test_every_restart_of_the_paper_stands_alone():
    study = made_up(FAMILY)
    look = how(study, estimator="paper")
    groups = np.random.default_rng(0).normal(size=(3, N, Q))
    groups[..., Q // 2 :] += 9  # the background is discarded: every image is effective
    seen = seen_by(look, {"entropy/logits": groups[0], "groups/logits": groups})
    found = list(look.replicates(seen, [study.runs[0].last], "logits"))
    np.testing.assert_array_equal(np.stack(found)[:, 0], groups)


def test_where_no_chance_has_a_part_there_are_no_replicates():
    look = how()
    seen = seen_by(look, {"energy/logits": np.ones((N, Q))})
    assert list(look.replicates(seen, [look.study.runs[0].last], "logits")) == []


def test_replicates_share_their_chance_over_the_checkpoints():
    """What all checkpoints have in common moves alike: differences of equal networks are zero."""
    look, groups = how(), np.random.default_rng(0).gamma(2.0, size=(8, N, Q))
    seen = seen_by(look, {"energy/logits": groups.mean(0), "groups/logits": groups})
    for h in look.replicates(seen, look.study.runs[1].checkpoints, "logits"):
        assert (h[0] == h[1]).all()


def test_units_that_an_image_lacks_have_no_entropy():
    look, sizes = how(), np.ones((N, Q))
    sizes[1, 4:] = 0
    energy = np.ones((N, Q)) * (sizes > 0)
    seen = seen_by(look, {"energy/logits": energy}) | shown(look, halved(), sizes)
    (h,) = look.entropies(seen, [look.study.runs[0].last], "logits")
    assert np.isnan(h[1, 4:]).all()
    np.testing.assert_allclose(h[1, :4], h[0, 0])


# --- concepts, quality and the filter


def test_the_level_is_of_the_data_or_of_every_image():
    h = np.zeros((1, N, Q))
    h[0, :, : Q // 2] = -1.0
    h[0, 1] += 10  # an image of which all is discarded
    for level, wanted in (("data", [3, 0, 3]), ("image", [3, 3, 3])):
        look = how(level=level, b=0.5, sweep=(0.5,))
        objects = look.objects(shown(look, halved()))
        found = look.found(h, objects)
        assert found.shape == (1, 1, N, Q)
        counts = (found & objects.on).sum(-1)[0, 0]
        assert counts.tolist() == wanted


def test_the_closed_form_has_nothing_to_converge_and_the_others_tell():
    look = how()
    last = look.study.runs[0].last
    assert look.quality(seen_by(look, {"energy/logits": np.ones((N, Q))}), last, "logits") is None
    fit = how(estimator="fit")
    told = {"converged/logits": np.array([1, 0, 1]), "distortion/logits": np.array([3.0, 2, 1])}
    found = fit.quality(seen_by(fit, told), last, "logits")
    assert found.converged.tolist() == [True, False, True]
    assert found.distortion.tolist() == [3, 2, 1]


EPOCHS = (0, 10, 40, 90, 150)


def filtered(bad: dict[tuple[str, int], list[int]], estimator: str = "paper") -> np.ndarray:
    """Which images stay, where `bad` says on which ones the object is discarded, and by whom."""
    study = made_up(FAMILY, epochs=EPOCHS)
    look = how(study, estimator=estimator)
    seen = shown(look, halved())
    for run in study.runs:
        for c in run.checkpoints:
            h = np.where(halved() > 0, 0.0, 1.0)
            h[bad.get((run.id, c.epoch), [])] *= -1
            seen[look.at(c)] = {"entropy/logits": h}
    keep = look.effective(seen, "logits")
    h = look.entropies(seen, [study.runs[1].last], "logits")[0]
    assert np.isnan(h[~keep]).all()
    assert np.isfinite(h[keep]).all()
    assert look.effective(seen, "logits") is keep, "found once"
    return keep


@pytest.mark.parametrize(
    ("bad", "wanted"),
    [
        ({}, [True] * 3),
        ({("kd0", 150): [0]}, [False, True, True]),
        ({("kd0", 40): [0], ("baseline0", 90): [2]}, [False, True, False]),
        ({("kd0", 10): [0], ("baseline0", 0): [1]}, [True] * 3),  # before 40 / 150 of training
        ({("teacher", 150): [0]}, [True] * 3),  # the paper compares student and baseline
    ],
)
def test_the_papers_filter_keeps_images_whose_background_is_discarded_more(bad, wanted):
    assert filtered(bad).tolist() == wanted


def test_the_other_estimators_keep_all_images():
    assert filtered({("kd0", 150): [0, 1, 2]}, "fit").all()


def test_an_equal_entropy_is_kept_and_a_dead_map_is_not():
    study = made_up(FAMILY, epochs=EPOCHS)
    look = how(study, estimator="paper")
    seen = shown(look, halved())
    flat = np.zeros((N, Q))
    flat[2] = np.nan
    seen |= {look.at(c): {"entropy/logits": flat} for run in study.runs for c in run.checkpoints}
    assert look.effective(seen, "logits").tolist() == [True, True, False]
