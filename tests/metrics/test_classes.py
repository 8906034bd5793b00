"""Accuracy by class against scikit-learn, planted gains that are told of and chance that is not."""

import json

import numpy as np
import pytest
from sklearn.metrics import recall_score
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable
from kdprobe.metrics.classes import by_class, unevenness
from kdprobe.metrics.contract import as_values
from kdprobe.panels import Heatmap, Table, Text

SEEDS = (FAMILY[0], *((arm, role, s) for s in range(3) for arm, role, _ in FAMILY[1:]))


def planted(name, count=600, classes=4):
    """Three of four right; kd is always right on class 1 and never on class 2."""
    chance = np.random.default_rng(sum(map(ord, name)))
    labels = np.arange(count) % classes
    answers = np.where(chance.random(count) < 0.75, labels, (labels + 1) % classes)
    if name.startswith("kd"):
        answers = np.where(labels == 1, 1, np.where(labels == 2, 3, answers))
    return np.eye(classes)[answers], labels


def seen(sight):
    logits, labels = planted(sight.subjects[0].run)
    return {"logits": logits, "labels": labels}


def four(study, **changes):
    return scope(study, classes=tuple("abcd"), **changes)


def test_accuracy_by_class_is_the_recall_of_scikit_learn():
    logits, labels = planted("baseline0")
    answers = logits.argmax(1)
    mean, error = by_class((answers == labels).astype(float), labels, 5)
    np.testing.assert_allclose(mean[:4], recall_score(labels, answers, average=None))
    assert np.isnan(mean[4])
    assert np.isnan(error[4])
    for k in range(4):
        hits = (answers == labels)[labels == k]
        assert error[k] == pytest.approx(hits.std(ddof=1) / np.sqrt(len(hits)))
    assert np.isnan(by_class(np.ones(1), np.zeros(1, int), 1)[1]).all(), "of one image"


def test_gains_that_are_planted_are_found_and_the_loss_is_told_of():
    study = made_up(SEEDS)
    result = ask("classes", study, four(study), seen)
    assert list(result.images) == [150] * 4
    gains = result.gains["kd"]
    wanted = result.arms["kd"].accuracy - result.arms["baseline"].accuracy
    np.testing.assert_allclose(gains.effect, wanted, atol=2e-4)
    assert gains.low[1] > 0
    assert gains.high[2] < 0
    assert (gains.p_value[[1, 2]] < 0.05).all()
    assert (gains.p_value[[0, 3]] > 0.3).all()
    (finding,) = result.findings()
    assert finding.startswith("kd is worse than the baseline on class 'c': -7")
    assert gains.unevenness > 5 * result.unevenness_by_chance


def test_p_values_are_adjusted_for_the_number_of_classes():
    study = made_up(SEEDS)
    plain = ask("classes", study, four(study), seen).gains["kd"]

    def fewer(sight):
        logits, labels = planted(sight.subjects[0].run)
        kept = labels < 2
        return {"logits": logits[kept], "labels": labels[kept]}

    less = ask("classes", study, four(study), fewer).gains["kd"]
    assert plain.p_value[1] / 3 == pytest.approx(less.p_value[1] / 2, abs=1e-4), "second of four"
    assert np.isnan(less.p_value[2:]).all()


def test_the_page():
    study = made_up(SEEDS)
    result = ask("classes", study, four(study), seen)
    figure, text, table = result.panels()
    assert isinstance(figure, Heatmap)
    assert (figure.rows, figure.columns) == (tuple("abcd"), ("kd",))
    assert figure.low == pytest.approx(100 * result.gains["kd"].effect.min())
    assert figure.high == pytest.approx(100 * result.gains["kd"].effect.max())
    assert figure.values[2][0] == pytest.approx(100 * result.gains["kd"].effect[2], abs=0.01)
    assert isinstance(text, Text)
    assert "kd: class 'c' gains least" in text.text
    assert "class 'b' most" in text.text
    assert "Differences between two baselines" in text.text
    assert isinstance(table, Table)
    assert len(table.rows) == 4 * 3
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.rows[0][:3] == ("a", 150, "teacher")
    assert table.rows[0][5:] == (None,) * 4
    assert "Only" not in figure.how_to_read


def test_without_a_baseline_accuracy_is_shown():
    study = made_up([FAMILY[0], FAMILY[2]])
    result = ask("classes", study, four(study), seen)
    assert result.gains == {}
    figure, table = result.panels()
    assert figure.title == "Accuracy of every class"
    assert figure.columns == ("teacher", "kd")
    assert "no baseline shares a seed" in figure.how_to_read
    assert np.isnan(result.unevenness_by_chance)
    assert table.rows[0][3] == pytest.approx(100 * result.arms["teacher"].accuracy[0])


def test_a_class_without_images_is_named_and_has_no_number():
    study = made_up(FAMILY)
    result = ask("classes", study, scope(study, classes=tuple("abcde")), seen)
    assert result.images[4] == 0
    assert np.isnan(result.gains["kd"].effect[4])
    figure, _, table = result.panels()
    assert figure.values[4] == (None,)
    assert figure.how_to_read.endswith("Without a test image: e.")
    assert table.rows[-1][3:] == (None,) * 6
    json.dumps(as_values(result), allow_nan=False)


def test_a_class_of_few_images_has_no_interval():
    study = made_up(FAMILY)

    def few(sight):
        logits, labels = planted(sight.subjects[0].run, 18)
        return {"logits": logits, "labels": labels}

    gains = ask("classes", study, four(study), few).gains["kd"]
    np.testing.assert_array_equal(np.isnan(gains.low), [False, False, True, True])
    assert np.isfinite(gains.effect).all()


def planted_in(count, known=3):
    """Of two classes with `count` images each: of one kd knows `known`, others all."""

    def look(sight):
        labels = np.arange(2 * count) % 2
        answers = labels.copy()
        if sight.subjects[0].run.startswith("kd"):
            answers[(labels == 1) & (np.arange(2 * count) >= 2 * known)] = 0
        return {"logits": np.eye(2)[answers], "labels": labels}

    return look


def test_of_few_images_nothing_is_told_first():
    study = made_up(FAMILY)
    few = ask("classes", study, scope(study), planted_in(29))
    assert few.gains["kd"].p_value[1] < 0.001
    assert not few.findings()
    (told,) = ask("classes", study, scope(study), planted_in(30)).findings()
    assert told.startswith("kd is worse than the baseline on class 'b': -90.0 points")


def test_an_interval_ends_at_all_images_and_none_has_no_width():
    study = made_up(FAMILY)
    few = ask("classes", study, scope(study), planted_in(5, known=1)).gains["kd"]
    assert few.low[1] == -1, "of 5 images Student's interval would go on"
    assert few.effect[1] > -1
    assert np.isnan([few.low[0], few.high[0]]).all(), "alike on all images"


def test_an_arm_is_told_of_once():
    study = made_up(FAMILY)

    def worse(sight):
        labels = np.arange(400) % 4
        kd = sight.subjects[0].run.startswith("kd")
        right = np.arange(400) % (7 if kd else 400) > labels
        return {"logits": np.eye(4)[np.where(right, labels, (labels + 1) % 4)], "labels": labels}

    (told,) = ask("classes", study, four(study), worse).findings()
    assert told.startswith("kd is worse than the baseline on class 'd'")
    assert told.endswith("and on 3 other classes")


def test_of_many_classes_the_largest_changes_are_shown_and_it_is_said():
    study = made_up(FAMILY)
    names = tuple(f"class {k}" for k in range(300))

    def many(sight):
        logits, labels = planted(sight.subjects[0].run, 600, 300)
        return {"logits": logits, "labels": labels}

    result = ask("classes", study, scope(study, classes=names), many)
    figure, _, table = result.panels()
    assert len(figure.rows) == 20
    assert (
        "Only the 20 classes of the largest changes; 280 more are left out." in figure.how_to_read
    )
    shown = np.abs([row[0] for row in figure.values])
    assert shown.min() >= np.sort(np.abs(100 * result.gains["kd"].effect))[-20]
    assert len({row[0] for row in table.rows}) == 40
    assert len(json.dumps(as_values(result))) < 60_000


def test_unevenness_is_the_spread_over_classes_and_not_the_gain():
    gain = np.array([0.1, 0.3, np.nan, 0.2])
    assert unevenness([gain]) == pytest.approx(0.1)
    assert unevenness([gain, gain + 5]) == pytest.approx(0.1)
    assert unevenness([gain, 7 * gain]) == pytest.approx(0.1 * np.sqrt(25))
    assert np.isnan(unevenness([]))


def test_chance_is_not_told_of():
    study = made_up(SEEDS)

    def alike(sight):
        return seen(sight) if not sight.subjects[0].run.startswith("kd") else chance(sight)

    def chance(sight):
        logits, labels = planted("other" + sight.subjects[0].run)
        return {"logits": logits, "labels": labels}

    assert not ask("classes", study, four(study), alike).findings()


def test_one_class_alone_has_nothing_to_compare():
    study = made_up(FAMILY)
    one = {"logits": np.eye(2)[[0, 1]], "labels": np.zeros(2, int)}
    with pytest.raises(NotApplicable, match="images of at least two classes; all 2 are of one"):
        ask("classes", study, scope(study), lambda _: one)
