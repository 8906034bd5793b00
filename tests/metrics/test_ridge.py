"""Ridge regression against scikit-learn, known relations, and what must not look like one."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from kdprobe.metrics.ridge import PENALTIES, foretold, r_squared

CHANCE = np.random.default_rng(0)
PARTS = np.arange(200) % 4


def r2(x, y, parts=PARTS) -> float:
    return r_squared(*foretold(x, [y], parts)[0])[0]


def test_it_is_scikit_learns_ridge_with_its_own_choice_of_penalty():
    x = CHANCE.normal(size=(200, 20)) * np.linspace(0.1, 5, 20) + 3
    y = x[:, :4] @ CHANCE.normal(size=(4, 3)) + 4 * CHANCE.normal(size=(200, 3))
    residual, total = foretold(x, [y], PARTS)[0]
    chosen = []
    for part in range(4):
        held = part == PARTS
        fit = ~held
        scaled = [(side - side[fit].mean(0)) / side[fit].std(0) for side in (x, y)]
        one, other = scaled
        ridge = RidgeCV(alphas=PENALTIES * fit.sum()).fit(one[fit], other[fit])
        chosen.append(ridge.alpha_)
        left = ((other[held] - ridge.predict(one[held])) ** 2).sum(1)
        np.testing.assert_allclose(residual[held], left, rtol=1e-6)
        np.testing.assert_allclose(total[held], (other[held] ** 2).sum(1), rtol=1e-9)
    assert all(PENALTIES[0] * 150 < alpha < PENALTIES[-1] * 150 for alpha in chosen)


def test_more_features_than_rows_agree_with_scikit_learn_too():
    x = CHANCE.normal(size=(40, 90))
    y = x[:, :2] @ CHANCE.normal(size=(2, 2))
    parts = np.arange(40) % 2
    residual, _ = foretold(x, [y], parts)[0]
    lefts = []
    for penalty in PENALTIES * 20:
        fit = parts == 1
        one, other = ((side - side[fit].mean(0)) / side[fit].std(0) for side in (x, y))
        ridge = Ridge(alpha=penalty).fit(one[fit], other[fit])
        lefts.append(((other[~fit] - ridge.predict(one[~fit])) ** 2).sum(1))
    assert any(np.allclose(residual[parts == 0], left) for left in lefts)


def test_a_linear_relation_is_one_and_independence_is_about_nothing():
    x = CHANCE.normal(size=(200, 8))
    assert r2(x, x @ CHANCE.normal(size=(8, 5)) + 7) > 0.999
    assert abs(r2(x, CHANCE.normal(size=(200, 5)))) < 0.05


@pytest.mark.parametrize("wide", [50, 140, 400])
def test_wide_noise_does_not_foretell(wide):
    assert r2(CHANCE.normal(size=(200, wide)), CHANCE.normal(size=(200, 5))) < 0.05


def test_known_share_of_noise():
    x = CHANCE.normal(size=(4000, 3))
    y = x + 0.5 * CHANCE.normal(size=(4000, 3))
    found, error = r_squared(*foretold(x, [y], np.arange(4000) % 4)[0])
    assert found == pytest.approx(0.8, abs=4 * error)
    assert 0 < error < 0.01


def test_several_later_layers_are_each_for_themselves():
    x = CHANCE.normal(size=(200, 6))
    later = [x[:, :2], CHANCE.normal(size=(200, 3)), x**2]
    together = foretold(x, later, PARTS)
    for one, features in zip(together, later, strict=True):
        np.testing.assert_allclose(one, foretold(x, [features], PARTS)[0])


def test_constants_foretell_nothing_and_cannot_be_foretold():
    x, still = CHANCE.normal(size=(200, 3)), np.full((200, 2), 0.3)
    assert r2(still, x) == pytest.approx(0, abs=0.05)
    assert np.isnan(r2(x, still))
    both = np.concatenate([x, still], axis=1)
    assert r2(x, both) == pytest.approx(r2(x, x), abs=1e-9), "constant features count for nothing"


def test_the_error_is_that_of_a_ratio():
    total = CHANCE.exponential(size=400)
    residual = 0.3 * total + 0.1 * CHANCE.exponential(size=400)
    _, error = r_squared(residual, total)
    drawn = np.random.default_rng(1).integers(400, size=(2000, 400))
    again = 1 - residual[drawn].sum(1) / total[drawn].sum(1)
    assert error == pytest.approx(again.std(), rel=0.1)
