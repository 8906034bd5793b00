"""Log-odds against their definition, the line and its errors against other routes to them."""

import numpy as np
import pytest
from scipy.stats import linregress
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.accuracy import log_softmax
from kdprobe.metrics.exaggeration import binned, line, log_odds
from kdprobe.panels import Forest, Lines, Table


def test_log_odds_are_those_of_the_probability():
    chance = np.random.default_rng(0)
    z, classes = 3 * chance.normal(size=(50, 6)), chance.integers(6, size=50)
    p = np.exp(log_softmax(z))[np.arange(50), classes]
    np.testing.assert_allclose(log_odds(z, classes), np.log(p / (1 - p)), rtol=1e-9)
    np.testing.assert_allclose(log_odds(z + 7, classes), log_odds(z, classes), rtol=1e-9)
    sure = np.array([[900.0, 0.0, -900.0]])
    assert log_odds(sure, np.array([0])) == pytest.approx(900), "where p rounds to 1"
    assert log_odds(np.array([[2.0, 5.0]]), np.array([0])) == pytest.approx(-3), "two classes"


def noisy(count=400, slope=1.4, seed=0):
    """A line with scatter that grows with x."""
    chance = np.random.default_rng(seed)
    x = chance.normal(2, 1.5, size=count)
    return x, 0.3 + slope * x + (0.2 + 0.3 * np.abs(x)) * chance.normal(size=count)


def test_the_line_is_that_of_scipy():
    x, y = noisy()
    slope, intercept, correlation, spread = line(x, y)
    wanted = linregress(x, y)
    assert slope.value == pytest.approx(wanted.slope)
    assert intercept.value == pytest.approx(wanted.intercept)
    assert correlation.value == pytest.approx(wanted.rvalue)
    assert spread.value == pytest.approx(y.std() / x.std())
    assert slope.value == pytest.approx(correlation.value * spread.value)
    for one in (slope, intercept, correlation, spread):
        assert one.by_image.mean() == pytest.approx(one.value)


def test_errors_of_slope_and_intercept_are_the_sandwich():
    x, y = noisy()
    slope, intercept, *_ = line(x, y)
    design = np.stack([np.ones_like(x), x], axis=1)
    bread = np.linalg.inv(design.T @ design)
    rest = y - design @ (bread @ design.T @ y)
    filling = design.T @ (design * rest[:, None] ** 2)
    wanted = np.sqrt(np.diag(bread @ filling @ bread) * len(x) / (len(x) - 2))
    np.testing.assert_allclose([intercept.error, slope.error], wanted)


def test_errors_are_those_of_drawing_images_again():
    x, y = noisy()
    chance = np.random.default_rng(1)
    drawn = [chance.integers(len(x), size=len(x)) for _ in range(600)]
    found = np.array([[one.value for one in line(x[i], y[i])] for i in drawn])
    np.testing.assert_allclose([one.error for one in line(x, y)], found.std(0), rtol=0.12)


def test_a_student_that_doubles_the_log_odds_has_slope_two():
    x, _ = noisy(50)
    slope, intercept, correlation, spread = line(x, 2 * x - 1)
    found = [one.value for one in (slope, intercept, correlation, spread)]
    np.testing.assert_allclose(found, [2, -1, 1, 2])
    assert max(one.error for one in (slope, intercept, correlation, spread)) < 1e-12
    assert [one.value for one in line(x, np.full(50, 4.0))] == [0, 4, 0, 0]


def test_bins_hold_equally_many():
    x = np.array([5.0, 1.0, 4.0, 2.0, 3.0, 0.0] * 5)
    np.testing.assert_allclose(binned(x, x), np.repeat(np.arange(6.0), 5).reshape(10, 3).mean(1))
    np.testing.assert_allclose(binned(x[:3], 10 * x[:3]), [10, 40, 50])


def two_class(odds):
    return np.stack([odds, np.zeros_like(odds)], axis=1)


def seen(sight, count=300):
    """Two classes, the first the teacher's: kd is 1.5 times as sure, the baseline unrelated."""
    chance = np.random.default_rng(3)
    x = chance.uniform(0.5, 6, size=count)
    odds = {
        "teacher": x,
        "kd0": 1.5 * x - 1 + 0.1 * chance.normal(size=count),
        "baseline0": chance.normal(2, 1, size=count),
    }
    return {"logits": two_class(odds[sight.subjects[0].run]), "labels": np.zeros(count, int)}


def test_the_page_tells_who_exaggerates():
    study = made_up(FAMILY)
    result = ask("exaggeration", study, scope(study), seen)
    base, kd = result.runs
    assert kd.slope.value == pytest.approx(1.5, abs=0.02)
    assert kd.intercept.value == pytest.approx(-1, abs=0.1)
    assert abs(base.slope.value) < 4 * base.slope.error
    assert result.above_one["kd"].effect == pytest.approx(kd.slope.value - 1)
    assert result.effects["kd"].effect == pytest.approx(kd.slope.value - base.slope.value)
    (finding,) = result.findings()
    assert finding.startswith("kd exaggerates its teacher's confidence: its log-odds grow 1.5")
    lines, forest, table = result.panels()
    assert isinstance(lines, Lines)
    assert [series.name for series in lines.series] == ["baseline", "kd", "as the teacher"]
    assert len(lines.series[1].y) == 10
    assert isinstance(forest, Forest)
    assert isinstance(table, Table)
    assert {len(row) for row in table.rows} == {len(table.columns)} == {len(set(table.columns))}
    assert table.rows[1][2:4] == (round(kd.slope.value, 3), round(kd.slope.error, 3))


def test_a_faithful_student_is_not_told_of():
    study = made_up(FAMILY)
    alike = seen(next(iter(_sights(study))))
    result = ask("exaggeration", study, scope(study), lambda _: alike)
    assert result.runs[1].slope.value == pytest.approx(1)
    assert not result.findings()


def _sights(study):
    from kdprobe.probes.contract import sight

    return [sight("outputs", study.final(run)) for run in study.runs]


def test_without_a_baseline_there_is_no_forest():
    study = made_up([FAMILY[0], FAMILY[2]])
    result = ask("exaggeration", study, scope(study), seen)
    assert [type(panel) for panel in result.panels()] == [Lines, Table]


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        (FAMILY[1:], {}, "needs a teacher"),
        (FAMILY[:1], {}, "only a teacher"),
        (FAMILY, {"available": 4}, "needs at least 10 images, found 4"),
    ],
)
def test_what_it_needs_is_said(family, changes, reason):
    study = made_up(family)
    with pytest.raises(NotApplicable, match=reason):
        ask("exaggeration", study, scope(study, **changes), seen)


@pytest.mark.parametrize(
    ("logits", "reason"),
    [
        (np.ones((20, 3)), "needs a teacher whose confidence varies"),
        (np.ones((20, 1)), "needs at least two classes"),
    ],
)
def test_a_teacher_that_says_nothing_is_no_measure(logits, reason):
    study = made_up(FAMILY)
    with pytest.raises(NotApplicable, match=reason):
        ask(
            "exaggeration",
            study,
            scope(study),
            lambda _: {"logits": logits, "labels": np.zeros(20, int)},
        )
