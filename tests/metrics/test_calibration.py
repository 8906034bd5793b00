"""Calibration against scikit-learn, closed forms, and networks that are calibrated by make."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.accuracy import log_softmax
from kdprobe.metrics.calibration import (
    best_temperature,
    by_image,
    cross_fitted,
    ece_if_calibrated,
    gaps_by_bin,
    likelihood,
    reliability,
    temperature_interval,
)
from kdprobe.panels import Forest, Lines, Table


def calibrated(count, classes=4, seed=0, scale=1.5):
    """Logits, and labels drawn from their own softmax."""
    chance = np.random.default_rng(seed)
    z = scale * chance.normal(size=(count, classes))
    p = np.exp(log_softmax(z))
    return z, (p.cumsum(1) > chance.random((count, 1))).argmax(1)


def two_classes(margin, right, wrong):
    """Logits that are always `margin` apart, right on `right` images and wrong on `wrong`."""
    labels = np.arange(right + wrong) % 2
    answers = np.where(np.arange(right + wrong) < right, labels, 1 - labels)
    return margin * np.eye(2)[answers], labels


def test_bins_and_curve_are_those_of_scikit_learn():
    z, labels = calibrated(500)
    p, right = np.exp(log_softmax(z)).max(1), z.argmax(1) == labels
    true, predicted = calibration_curve(right, p, n_bins=7, strategy="quantile")
    x, y, error = reliability(p[None], right[None], 7)
    np.testing.assert_allclose(x, predicted)
    np.testing.assert_allclose(y, true)
    count = np.histogram(p, np.quantile(p, np.linspace(0, 1, 8)))[0]
    np.testing.assert_allclose(error, np.sqrt(true * (1 - true) / count))
    ece = (count * np.abs(true - predicted)).sum() / 500
    assert gaps_by_bin(p, right, 7).mean() == pytest.approx(ece)


def test_seeds_on_the_same_images_are_not_more_images():
    z, labels = calibrated(300)
    p, right = np.exp(log_softmax(z)).max(1), z.argmax(1) == labels
    once, twice = (
        reliability(p[None], right[None], 5),
        reliability(np.stack([p, p]), np.stack([right, right]), 5),
    )
    for one, two in zip(once, twice, strict=True):
        np.testing.assert_allclose(one, two)


def test_likelihood_and_brier_score_are_those_of_scikit_learn():
    z, labels = calibrated(200)
    values = by_image(z, labels, 5)
    assert values["nll"].mean() == pytest.approx(log_loss(labels, np.exp(log_softmax(z))))
    z, labels = calibrated(200, classes=2)
    p = np.exp(log_softmax(z))[:, 1]
    assert by_image(z, labels, 5)["brier"].mean() == pytest.approx(2 * brier_score_loss(labels, p))


def test_a_network_that_says_nothing():
    labels = np.array([0, 0, 0, 1, 2, 3, 4, 4, 3, 1])
    z = np.full((10, 5), 3.0)
    values = by_image(z, labels, 2)
    assert values["ece"].mean() == pytest.approx(abs(0.3 - 0.2)), "equal confidences, one bin"
    assert values["overconfidence"].mean() == pytest.approx(0.2 - 0.3)
    assert values["nll"].mean() == pytest.approx(np.log(5))
    assert values["brier"].mean() == pytest.approx(1 - 1 / 5)
    assert np.isnan(best_temperature(z, labels))
    np.testing.assert_allclose(values["nll_scaled"], values["nll"])


def test_calibrated_by_make_is_found_calibrated():
    z, labels = calibrated(4000)
    values, p = by_image(z, labels, 15), np.exp(log_softmax(z)).max(1)
    null = ece_if_calibrated(p, 15)
    assert np.quantile(null, 0.01) < values["ece"].mean() < np.quantile(null, 0.99)
    assert abs(values["overconfidence"].mean()) < 3 * values["overconfidence"].std() / 4000**0.5
    best = best_temperature(z, labels)
    low, high = temperature_interval(z, labels, best)
    assert low < 1 < high
    assert low < best < high


def test_of_one_bin_the_null_is_half_a_normal():
    p = np.random.default_rng(0).uniform(0.3, 1, size=400)
    null = ece_if_calibrated(p, 1, draws=20_000, seed=1)
    sd = np.sqrt((p * (1 - p)).sum()) / 400
    assert null.mean() == pytest.approx(sd * np.sqrt(2 / np.pi), rel=0.04)
    assert null.std() == pytest.approx(sd * np.sqrt(1 - 2 / np.pi), rel=0.05)
    many = ece_if_calibrated(p, 20, draws=200)
    assert many.mean() > 3 * null.mean(), "more bins, more bias"


@pytest.mark.parametrize(("margin", "right", "wrong"), [(3.0, 80, 20), (0.5, 300, 100)])
def test_two_classes_have_a_best_temperature_in_closed_form(margin, right, wrong):
    z, labels = two_classes(margin, right, wrong)
    logit = np.log(right / wrong)
    best = best_temperature(z, labels)
    assert best == pytest.approx(margin / logit, rel=1e-3)
    n, q = right + wrong, right / (right + wrong)
    error = 1 / np.sqrt(n * q * (1 - q)) / logit  # of log T, by the delta method
    low, high = temperature_interval(z, labels, best)
    assert np.log(high / low) == pytest.approx(2 * 1.96 * error, rel=0.15)
    entropy = -q * np.log(q) - (1 - q) * np.log(1 - q)
    assert likelihood(z, labels, best).mean() == pytest.approx(entropy, rel=1e-6)


def test_every_draw_of_two_classes_has_its_best_temperature_in_closed_form():
    z, labels = two_classes(2.0, 70, 30)
    weights = np.random.default_rng(5).multinomial(100, np.full(100, 0.01), size=300)
    share = weights @ (z.argmax(1) == labels) / 100
    wanted = np.quantile(2 / np.log(share / (1 - share)), [0.025, 0.975])
    best = best_temperature(z, labels)
    found = temperature_interval(z, labels, best, draws=300, seed=5)
    np.testing.assert_allclose(found, wanted, rtol=0.005)


def test_the_interval_is_that_of_fitting_every_draw():
    z, labels = calibrated(150)
    best = best_temperature(z, labels)
    chance, found = np.random.default_rng(7), []
    for _ in range(150):
        drawn = chance.integers(150, size=150)
        found.append(best_temperature(z[drawn], labels[drawn]))
    wanted = np.log(np.quantile(found, [0.025, 0.975]))
    np.testing.assert_allclose(np.log(temperature_interval(z, labels, best)), wanted, atol=0.08)


def test_a_sharper_network_is_cooled_down_by_as_much():
    z, labels = calibrated(400)
    best, interval = best_temperature(z, labels), temperature_interval(z, labels, 1.0)
    assert best_temperature(5 * z, labels) == pytest.approx(5 * best, rel=1e-3)
    np.testing.assert_allclose(
        temperature_interval(5 * z, labels, 5.0), [5 * x for x in interval], rtol=1e-6
    )
    np.testing.assert_allclose(cross_fitted(5 * z, labels), cross_fitted(z, labels), rtol=2e-3)
    assert likelihood(5 * z, labels).mean() > 2 * cross_fitted(5 * z, labels).mean()


def test_what_is_fitted_on_one_half_is_counted_on_the_other():
    labels = np.repeat(np.arange(4), 8)
    chance = np.random.default_rng(1)
    free = chance.normal(size=(32, 4))
    gains = likelihood(free, labels) - cross_fitted(free, labels)
    own = (
        likelihood(free, labels).mean()
        - likelihood(free, labels, best_temperature(free, labels)).mean()
    )
    assert gains.mean() < own
    best = best_temperature(free[1::2], labels[1::2])
    np.testing.assert_allclose(
        cross_fitted(free, labels)[::2], likelihood(free[::2], labels[::2], best)
    )


@pytest.mark.parametrize("labels", [np.arange(12) % 3, np.zeros(12, int)])
def test_a_network_that_is_always_right_has_no_best_temperature(labels):
    z = 6.0 * np.eye(3)[labels]
    assert np.isnan(best_temperature(z, labels))
    assert np.isnan(temperature_interval(z, labels, float("nan"))).all()
    np.testing.assert_allclose(cross_fitted(z, labels), likelihood(z, labels))


def test_the_error_of_the_calibration_error_is_that_of_drawing_images_again():
    z, labels = calibrated(800)
    p, right = np.exp(log_softmax(3 * z)).max(1), z.argmax(1) == labels
    values = gaps_by_bin(p, right, 5)
    chance = np.random.default_rng(0)
    drawn = [chance.integers(800, size=800) for _ in range(300)]
    wanted = np.std([gaps_by_bin(p[i], right[i], 5).mean() for i in drawn])
    assert values.std(ddof=1) / 800**0.5 == pytest.approx(wanted, rel=0.15)


def seen(sight, count=400):
    """The student is three times as sure as it ought to be."""
    z, labels = calibrated(count)
    return {"logits": z * (3 if sight.subjects[0].run == "kd0" else 1), "labels": labels}


def test_the_page_tells_who_is_too_sure():
    study = made_up(FAMILY)
    result = ask("calibration", study, scope(study), seen)
    assert result.bins == 15
    _, base, kd = result.runs
    assert kd.ece > 4 * kd.ece_null
    assert kd.ece_p == pytest.approx(1 / 501)
    assert base.ece_p > 0.01
    assert kd.temperature == pytest.approx(3 * base.temperature, rel=1e-3)
    assert result.effects["ece"]["kd"].effect == pytest.approx(kd.ece - base.ece)
    (finding,) = result.findings()
    assert finding.startswith("confidences of kd are further from its accuracy than the baseline")
    curve, *forests, table = result.panels()
    assert isinstance(curve, Lines)
    assert [series.name for series in curve.series] == [
        "teacher",
        "baseline",
        "kd",
        "perfectly calibrated",
    ]
    assert all(isinstance(panel, Forest) for panel in forests)
    points = {row.name: row.value for row in forests[0].effects}
    assert points["kd, overconfidence"] == pytest.approx(
        100 * (kd.overconfidence - base.overconfidence)
    )
    assert isinstance(table, Table)
    assert {len(row) for row in table.rows} == {len(table.columns)} == {len(set(table.columns))}
    assert table.rows[2][2] == pytest.approx(100 * kd.ece, abs=0.01)


def test_order_of_images_changes_nothing():
    z, labels = calibrated(300)
    order = np.random.default_rng(2).permutation(300)
    one, two = by_image(z, labels, 15), by_image(z[order], labels[order], 15)
    for name in ("ece", "overconfidence", "brier", "nll"):
        np.testing.assert_allclose(one[name][order], two[name], atol=1e-12)
    assert best_temperature(z, labels) == pytest.approx(best_temperature(z[order], labels[order]))


def test_few_images_have_few_bins_and_fewer_have_none():
    study = made_up(FAMILY[:1])
    result = ask("calibration", study, scope(study), lambda s: seen(s, 12), images=12)
    assert result.bins == 2
    assert result.effects == {}
    assert [type(panel) for panel in result.panels()] == [Lines, Table]
    with pytest.raises(NotApplicable, match="needs at least 10 images, found 9"):
        ask("calibration", study, scope(study, available=9), seen)


def test_one_image_does_not_break_what_is_shown():
    study = made_up(FAMILY)
    result = ask("calibration", study, scope(study), lambda s: seen(s, 1))
    assert np.isnan(result.runs[0].nll_error)
    assert result.panels()[-1].rows[0][3] is None
