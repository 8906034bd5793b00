"""Entropies from energies: closed forms, laws, and what is said of dead layers."""

import math

import numpy as np
import pytest
from stage import FAMILY, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.discarding import (
    UNIFORM_NOISE,
    ConceptLook,
    background_level,
    concepts,
    entropy,
    entropy_error,
    learners,
)

HALF_LOG = 0.5 * math.log(2 * math.pi * math.e)


def energies(seed: int = 0, shape=(3, 4, 4)) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, size=shape)


def test_equal_cells_have_the_entropy_of_one_normal():
    h = entropy(np.full((4, 4), 7.0), lam=6.0)
    spread = UNIFORM_NOISE * math.sqrt(6.0 / 2)
    np.testing.assert_allclose(h, HALF_LOG + math.log(spread))


def test_at_the_optimum_the_feature_loss_is_half_of_lam():
    g = energies()
    s = np.exp(entropy(g, lam=6.0) - HALF_LOG)
    loss = (s**2 * g).sum((1, 2)) / (UNIFORM_NOISE**2 * g.sum((1, 2)))
    np.testing.assert_allclose(loss, 3.0)


def test_the_slope_of_the_loss_is_zero_at_the_optimum():
    g, lam = energies(shape=(4, 4)), 6.0

    def loss(log_s: np.ndarray) -> float:
        distortion = (np.exp(2 * log_s) * g).sum() / (UNIFORM_NOISE**2 * g.sum())
        return float(distortion - lam * (log_s + HALF_LOG).mean())

    best = entropy(g, lam) - HALF_LOG
    for cell in np.ndindex(4, 4):
        step = np.zeros((4, 4))
        step[cell] = 1e-4
        assert abs(loss(best + step) - loss(best - step)) / 2e-4 < 1e-7
        assert loss(best + 100 * step) > loss(best)


def test_lam_and_the_unit_of_the_features_move_all_cells_alike_or_not_at_all():
    g = energies()
    np.testing.assert_allclose(entropy(g, 12.0) - entropy(g, 6.0), 0.5 * math.log(2))
    np.testing.assert_allclose(entropy(1e6 * g, 6.0), entropy(g, 6.0))


def test_four_times_the_energy_is_log_two_nats_less():
    g = np.ones((4, 4))
    g[0, 0] = 4
    h = entropy(g, 6.0)
    assert h[1, 1] - h[0, 0] == pytest.approx(math.log(2))


def test_a_cell_without_energy_is_finite_and_a_dead_image_is_not_a_number():
    g = energies()
    g[0, 0, 0] = 0
    g[1] = 0
    h = entropy(g, 6.0)
    assert np.isfinite(h[0]).all()
    assert h[0, 0, 0] == h[0].max() > 10
    assert np.isnan(h[1]).all()
    assert np.isfinite(h[2]).all()


def test_the_error_of_the_entropy_is_that_of_a_simulation():
    g = energies(shape=(4, 4)) + 0.5
    error = 0.02 * g * np.linspace(0.5, 1.5, 16).reshape(4, 4)
    chance = np.random.default_rng(1)
    drawn = g + error * chance.normal(size=(20_000, 4, 4))
    mean = np.broadcast_to(g.sum(), (20_000,))[:, None, None]
    h = 0.5 * np.log(mean / drawn)  # the sum hardly moves when there are many cells
    np.testing.assert_allclose(entropy_error(g, error), h.std(0), rtol=0.05)
    assert (entropy_error(g, 0 * error) == 0).all()


def test_the_level_is_a_mean_of_means_over_images():
    h = np.arange(18.0).reshape(2, 3, 3)
    on = np.zeros((2, 3, 3), dtype=bool)
    on[0, :2] = True
    wanted = (h[0, 2].mean() + h[1].mean()) / 2
    assert background_level(h, on) == pytest.approx(wanted)
    several = background_level(np.stack([h, h + 5]), on)
    np.testing.assert_allclose(several, [wanted, wanted + 5])


def test_dead_images_and_images_without_background_have_no_say_in_the_level():
    h = np.arange(27.0).reshape(3, 3, 3)
    h[0] = np.nan
    on = np.zeros((3, 3, 3), dtype=bool)
    on[1] = True
    assert background_level(h, on) == pytest.approx(h[2].mean())


def test_without_any_background_there_is_no_level_and_no_concept():
    h, on = np.zeros((2, 3, 3)), np.ones((2, 3, 3), dtype=bool)
    level = background_level(h - 5, on)
    assert np.isnan(level)
    assert not concepts(h - 5, level, [0.2]).any()


def test_a_concept_is_kept_by_strictly_more_than_the_threshold():
    h = np.array([[[-0.5, -0.25], [0.0, np.nan]]])
    found = concepts(h, np.float64(0.0), [0.25, 0.1])
    assert found.shape == (2, 1, 2, 2)
    assert found[0, 0].tolist() == [[True, False], [False, False]]
    assert found[1, 0].tolist() == [[True, True], [False, False]]


def test_concepts_are_cells_of_enough_energy_over_the_backgrounds_geometric_mean():
    g, b = energies(shape=(5, 8, 8)), 0.2
    on = np.zeros((5, 8, 8), dtype=bool)
    on[:, :4] = True
    one = g[:1], on[:1]  # of one image the level is its own
    h = entropy(one[0], 6.0)
    wanted = one[0] > math.exp(2 * b) * np.exp(np.log(one[0][~one[1]]).mean())
    assert (concepts(h, background_level(h, one[1]), [b])[0] == wanted).all()


def test_masks_are_needed():
    with pytest.raises(NotApplicable, match="needs object masks; data set 'noise' has none"):
        ConceptLook(scope(made_up(FAMILY), has_masks=False))


def test_a_cell_is_on_the_object_from_half_covered():
    how = ConceptLook(scope(made_up(FAMILY)))
    coverage = np.array([[[0.0, 0.49], [0.5, 1.0]]])
    shown = {"coverage": coverage, "labels": 0, "pixels": 0, "object": 0}
    assert how.objects({how.pictures: shown}).on[0].tolist() == [[False, False], [True, True]]


def test_one_sight_a_checkpoint_whoever_asks():
    study = made_up(FAMILY)
    how = ConceptLook(scope(study))
    sights = {how.at(c) for run in study.runs for c in run.checkpoints}
    assert len(sights) == 9
    assert how.at(study.runs[0].last) in sights


def test_learners_share_their_epochs():
    runs, epochs = learners(made_up(FAMILY))
    assert [run.id for run in runs] == ["baseline0", "kd0"]
    assert epochs == (0, 1, 2)
    with pytest.raises(NotApplicable, match="this study has only a teacher"):
        learners(made_up(FAMILY[:1]))
    with pytest.raises(NotApplicable, match=r"at least two checkpoints .* found 1"):
        learners(made_up(FAMILY, epochs=(4,)))


def test_errors_of_a_checkpoint_are_first_order():
    study = made_up(FAMILY)
    how = ConceptLook(scope(study, layers=("logits",)))
    g, last = energies(), study.runs[0].last
    seen = {how.at(last): {"energy/logits": g, "error/logits": 0.1 * g}}
    np.testing.assert_allclose(how.errors(seen, last, "logits"), 0.05)
    np.testing.assert_allclose(how.entropies(seen, [last, last], "logits")[1], entropy(g, 6.0))
