"""Intervals cover, p-values are uniform where nothing differs, Holm against its definition."""

import itertools

import numpy as np
import pytest
from scipy.stats import kstest

from kdprobe.stats import (
    holm,
    image_bootstrap,
    mean_of_defined,
    outcome,
    over_runs,
    paired_bootstrap,
    variance_of_defined,
)


def pair(effect: float, seed: int, r: int = 3, n: int = 60, noise: float = 1.0):
    """(student, baseline): images differ a lot, the student by `effect` and noise of its own."""
    chance = np.random.default_rng(seed)
    base = chance.normal(size=(r, n)) * 5
    return base + effect + noise * chance.normal(size=(r, n)), base


def test_the_mean_and_variance_leave_out_what_is_not_defined():
    x = np.random.default_rng(0).normal(size=(4, 9))
    x[0, 3] = x[2, :5] = np.nan
    np.testing.assert_allclose(mean_of_defined(x), np.nanmean(x, axis=-1))
    np.testing.assert_allclose(variance_of_defined(x), np.nanvar(x, axis=-1))
    nothing = np.full((2, 3), np.nan)
    assert np.isnan(mean_of_defined(nothing)).all()
    assert np.isnan(variance_of_defined(nothing)).all()
    assert (variance_of_defined(np.ones((2, 3))) == 0).all()


def test_the_interval_of_images_is_that_of_theory():
    x = np.random.default_rng(0).normal(size=400)
    low, high = image_bootstrap(x, mean_of_defined, draws=4000)
    error = x.std() / 20
    assert low == pytest.approx(x.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(x.mean() + 1.96 * error, abs=0.15 * error)
    wide = image_bootstrap(x, variance_of_defined, draws=4000)
    spread = x.var() * np.sqrt(2 / 400)  # of a normal sample
    assert wide[1] - wide[0] == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_the_interval_of_images_covers():
    covered = []
    for trial in range(300):
        x = np.random.default_rng(trial).normal(size=50) + 3
        low, high = image_bootstrap(x, mean_of_defined, draws=300)
        covered.append(low <= 3 <= high)
    assert 0.9 <= np.mean(covered) <= 0.98


def test_the_interval_of_images_leaves_out_what_is_not_defined_and_reads_no_global_chance():
    x = np.random.default_rng(0).normal(size=30)
    gaps = np.insert(x, [3, 9, 30], np.nan)
    np.random.seed(1)
    one = image_bootstrap(x, mean_of_defined)
    np.random.seed(2)
    assert image_bootstrap(gaps, mean_of_defined) == one
    assert image_bootstrap(x, mean_of_defined, seed=1) != one
    assert image_bootstrap(np.full(5, 2.0), mean_of_defined) == (2.0, 2.0)
    assert np.isnan(image_bootstrap(np.full(3, np.nan), mean_of_defined)).all()
    assert np.isnan(image_bootstrap(np.zeros(0), mean_of_defined)).all()


def test_the_effect_is_the_mean_over_seeds_of_the_difference():
    student, baseline = pair(0.3, 0)
    for statistic, plain in ((mean_of_defined, np.mean), (variance_of_defined, np.var)):
        found = paired_bootstrap(student, baseline, statistic, draws=300)
        wanted = np.mean([plain(s) - plain(b) for s, b in zip(student, baseline, strict=True)])
        assert found.effect == pytest.approx(wanted)
        assert found.low < found.effect < found.high
        assert (found.seeds, found.images) == (3, 60)


def test_the_interval_is_as_wide_as_two_standard_errors_of_the_paired_difference():
    student, baseline = pair(0.0, 1, r=1, n=400)
    found = paired_bootstrap(student, baseline, mean_of_defined)
    error = (student - baseline).std() / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert student.std() / 20 > 4 * error, "unpaired it would be far wider"


def test_the_interval_covers_a_known_difference():
    covered = []
    for trial in range(150):
        found = paired_bootstrap(*pair(0.4, trial), mean_of_defined, draws=300)
        covered.append(found.low <= 0.4 <= found.high)
    assert np.mean(covered) >= 0.9


def test_the_p_value_is_uniform_where_nothing_differs():
    """With one seed, where only the images vary."""
    single = [
        paired_bootstrap(*pair(0.0, trial, r=1), mean_of_defined, draws=400).p_value
        for trial in range(300)
    ]
    assert kstest(single, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("r", [2, 3, 5])
@pytest.mark.parametrize("between", [0.0, 0.3, 1.0])
def test_false_alarms_are_as_rare_as_claimed_however_few_the_seeds(r, between):
    """No effect at all, but seeds that differ by `between` times the spread of the images."""
    alarms = []
    for trial in range(200):
        chance = np.random.default_rng([trial, r])
        baseline = chance.normal(size=(r, 60))
        student = baseline + between * chance.normal(size=(r, 1)) + chance.normal(size=(r, 60))
        found = paired_bootstrap(student, baseline, mean_of_defined, draws=200)
        alarms.append(found.p_value < 0.05)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    assert np.mean(alarms) <= 0.09  # 5% and two and a half standard errors


def test_images_count_where_both_sides_are_defined():
    """A student equal to its baseline wherever both are defined differs by nothing."""
    baseline = np.random.default_rng(0).normal(size=(3, 60))
    student = baseline.copy()
    baseline[:, :20] = np.nan
    found = paired_bootstrap(student, baseline, mean_of_defined, draws=200)
    assert (found.effect, found.p_value, found.images) == (0, 1, 40)


def test_a_large_difference_is_found_and_has_the_sign_of_the_student():
    student, baseline = pair(2.0, 0)
    up, down = (
        paired_bootstrap(*sides, mean_of_defined)
        for sides in ((student, baseline), (baseline, student))
    )
    assert up.low > 0 > down.high
    assert up.effect == -down.effect
    assert up.p_value == down.p_value < 0.02


def test_equal_samples_differ_by_nothing():
    _, baseline = pair(0.0, 0)
    found = paired_bootstrap(baseline, baseline, mean_of_defined, draws=200)
    assert (found.effect, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(("one", "other"), [(0.5, 0.3), (0.9, 0.8), (0.75, 0.5), (5e-9, 3e-9)])
def test_seeds_that_agree_are_no_proof_however_their_mean_is_rounded(one, other):
    found = over_runs([one] * 3, [other] * 3)
    assert found.low == found.high == found.effect == pytest.approx(one - other)
    assert found.p_value == 0.25


def test_one_seed_is_not_drawn_again():
    student, baseline = pair(1.0, 0, r=1)
    assert paired_bootstrap(student, baseline, mean_of_defined, draws=200).seeds == 1


def test_the_seeds_vary_too():
    """Seeds that disagree widen the interval, however certain each is of itself."""
    baseline = np.zeros((4, 50))
    student = np.array([-3.0, -1.0, 1.0, 3.0])[:, None] + np.zeros((4, 50))
    found = paired_bootstrap(student, baseline, mean_of_defined)
    assert found.low < -1.5
    assert found.high > 1.5


def test_the_same_seed_draws_the_same():
    student, baseline = pair(0.2, 0)
    one, two, other = (
        paired_bootstrap(student, baseline, mean_of_defined, seed=s, draws=300) for s in (1, 1, 2)
    )
    assert one == two
    assert one != other
    np.random.seed(99)  # the global state is not read
    assert paired_bootstrap(student, baseline, mean_of_defined, seed=1, draws=300) == one


def test_images_that_are_not_defined_are_left_out_and_a_seed_without_any_decides_nothing():
    student, baseline = pair(1.0, 0)
    student[:, ::2] = np.nan
    found = paired_bootstrap(student, baseline, mean_of_defined, draws=300)
    assert np.isfinite([found.effect, found.low, found.high]).all()
    student[1] = np.nan
    found = paired_bootstrap(student, baseline, mean_of_defined, draws=300)
    assert np.isnan([found.effect, found.low, found.high]).all()
    assert found.p_value == 1


@pytest.mark.parametrize(
    ("student", "baseline"), [((2, 5), (2, 6)), ((5,), (5,)), ((0, 5), (0, 5)), ((2, 0), (2, 0))]
)
def test_samples_that_are_no_pairs_are_refused(student, baseline):
    with pytest.raises(ValueError, match=r"found samples of shapes .* wanted the same \(r, n\)"):
        paired_bootstrap(np.zeros(student), np.zeros(baseline), mean_of_defined)


def stepped_down(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as he states it: which hypotheses are rejected at `level`."""
    rejected: set[int] = set()
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] >= level / (len(p_values) - rank):
            break
        rejected.add(int(index))
    return rejected


@pytest.mark.parametrize("trial", range(20))
def test_holm_rejects_what_the_step_down_procedure_rejects(trial):
    p = np.random.default_rng(trial).random(6) ** 3
    adjusted = holm(p.tolist())
    for level in (0.01, 0.05, 0.2, 0.5):
        below = {i for i, value in enumerate(adjusted) if value < level}
        assert below == stepped_down(p.tolist(), level)


def test_holm_is_the_closed_test_of_bonferroni():
    """Adjusted p = the largest Bonferroni p over all sets of hypotheses that hold this one."""
    p = [0.01, 0.04, 0.03, 0.005]
    for i, adjusted in enumerate(holm(p)):
        sets = [s for size in range(1, 5) for s in itertools.combinations(range(4), size) if i in s]
        assert adjusted == pytest.approx(max(min(1, len(s) * min(p[j] for j in s)) for s in sets))


def test_holm_of_one_of_none_and_of_large_ones():
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("effect", "p", "wanted", "verdict"),
    [
        (1.0, 0.01, "higher", "supported"),
        (-1.0, 0.01, "lower", "supported"),
        (1.0, 0.01, "lower", "contradicted"),
        (-1.0, 0.01, "higher", "contradicted"),
        (1.0, 0.05, "higher", "undecided"),
        (0.0, 0.0, "higher", "undecided"),
        (float("nan"), 0.0, "higher", "undecided"),
    ],
)
def test_an_effect_becomes_a_verdict(effect, p, wanted, verdict):
    assert outcome(effect, p, wanted) == verdict
