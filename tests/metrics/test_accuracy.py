"""Accuracy and cross-entropy against torch, and the error of a share against simulation."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from stage import FAMILY, ask, made_up, scope
from torch.nn.functional import cross_entropy

from kdprobe.errors import Refused
from kdprobe.metrics.accuracy import (
    best_order,
    is_in_another_order,
    log_softmax,
    proportion_error,
    right_in_best_order,
)
from kdprobe.metrics.answers import every_second
from kdprobe.metrics.contract import METRICS

LABELS = np.arange(40) % 5


def logits(name: str) -> np.ndarray:
    seed = sum(map(ord, name))
    return np.random.default_rng(seed).normal(size=(40, 5)).astype(np.float32) * 3


def seen(sight):
    return {"logits": logits(sight.subjects[0].run), "labels": LABELS}


def test_the_numbers_are_those_of_other_libraries():
    study = made_up(FAMILY)
    result = ask("accuracy", study, scope(study), seen)
    assert result.images == 40
    assert [run.run for run in result.runs] == ["teacher", "baseline0", "kd0"]
    for run in result.runs:
        z = logits(run.run)
        assert run.accuracy == pytest.approx(accuracy_score(LABELS, z.argmax(1)))
        wanted = cross_entropy(torch.from_numpy(z).double(), torch.from_numpy(LABELS))
        assert run.loss == pytest.approx(float(wanted), rel=1e-12)
        assert run.epoch == 2
    (table,) = result.panels()
    assert table.rows[0][4] == pytest.approx(100 * result.runs[0].accuracy, abs=0.01)


def test_a_network_that_knows_the_labels_is_at_the_upper_end():
    study = made_up(FAMILY[:1])
    sure = 50.0 * np.eye(5)[LABELS]
    found = ask("accuracy", study, scope(study), lambda _: {"logits": sure, "labels": LABELS})
    (run,) = found.runs
    assert run.accuracy == 1
    assert run.error == 0
    assert 0 <= run.loss < 1e-12


def test_log_probabilities_add_up_however_large_the_logits():
    z = np.array([[1e4, 0.0, -1e4], [1e-9, 0.0, 0.0]], dtype=np.float32)
    found = log_softmax(z)
    np.testing.assert_allclose(np.exp(found).sum(1), 1)
    np.testing.assert_allclose(found, torch.from_numpy(z).double().log_softmax(1))
    np.testing.assert_allclose(log_softmax(z + np.float32(64)), log_softmax(z), atol=1e-5)


@pytest.mark.parametrize(("share", "count"), [(0.5, 25), (0.9, 100)])
def test_the_error_of_a_share_is_that_of_a_simulation(share, count):
    drawn = np.random.default_rng(0).binomial(count, share, size=40_000) / count
    assert proportion_error(share, count) == pytest.approx(drawn.std(), rel=0.02)


@pytest.mark.parametrize("key", ["accuracy", "fidelity"])
def test_shares_beside_nats_have_no_common_direction(key):
    assert METRICS[key].better == "neither"


def mixed(order, share, count=400, seed=0):
    """Labels of five classes, and answers right on `share` of them once put in `order`."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(5, size=count)
    meant = np.where(chance.random(count) < share, labels, chance.integers(5, size=count))
    return np.argsort(order)[meant], labels


def test_the_best_order_is_that_of_all_orders():
    chance = np.random.default_rng(3)
    for _ in range(5):
        answers, labels = chance.integers(4, size=(2, 30))
        scores = [(np.array(o)[answers] == labels).sum() for o in permutations(range(4))]
        order = best_order(answers, labels, 4)
        assert sorted(order) == [0, 1, 2, 3]
        assert (order[answers] == labels).sum() == max(scores)
    moved = best_order(np.zeros(3, int), np.full(3, 2), 4)
    np.testing.assert_array_equal(moved, [2, 1, 0, 3], "no output moves for nothing")


def test_classes_in_another_order_are_named():
    order = np.array([1, 2, 0, 3, 4])
    answers, labels = mixed(order, 0.9)
    right = answers == labels
    reordered = right_in_best_order(answers, labels, 5)
    np.testing.assert_array_equal(reordered, order[answers] == labels)
    assert is_in_another_order(right, reordered, labels)
    study = made_up(FAMILY)
    told = {"logits": np.eye(5)[answers], "labels": labels}
    straight = {"logits": np.eye(5)[order[answers]], "labels": labels}
    result = ask(
        "accuracy",
        study,
        scope(study, classes=tuple("abcde")),
        lambda sight: told if sight.subjects[0].run == "kd0" else straight,
    )
    (finding,) = result.findings()
    assert finding.startswith("kd0 is right on ")
    assert "another order: 'a' means 'b', 'b' means 'c', 'c' means 'a'; its classes" in finding
    assert [run.moved for run in result.runs[:2]] == [[], []]
    assert result.runs[2].reordered == pytest.approx(result.runs[0].accuracy)


@pytest.mark.parametrize("count", [4, 16, 40, 400])
def test_an_untrained_network_and_few_images_are_not_suspected(count):
    chance = np.random.default_rng(count)
    for _ in range(20):
        answers, labels = chance.integers(5, size=(2, count))
        for guess in (answers, np.zeros_like(answers), np.full_like(answers, labels[0])):
            reordered = right_in_best_order(guess, labels, 5)
            assert not is_in_another_order(guess == labels, reordered, labels)


def test_a_network_that_always_gives_a_rare_class_is_not_suspected():
    labels = (np.arange(200) % 5 == 0).astype(int)
    always = np.ones(200, int)
    reordered = right_in_best_order(always, labels, 2)
    assert reordered.mean() == 0.8
    assert not is_in_another_order(always == labels, reordered, labels)


@pytest.mark.parametrize("labels", [np.arange(40) % 2, np.repeat([0, 1, 2], [20, 8, 12])])
def test_halves_have_every_class_alike(labels):
    half = every_second(labels)
    np.testing.assert_array_equal(np.bincount(labels[half]), np.bincount(labels[~half]))


def test_the_other_half_decides_the_order():
    labels = np.repeat(np.arange(20), 2)
    answers = np.random.default_rng(0).permutation(labels)
    by_chance = best_order(answers, labels, 20)[answers] == labels
    assert by_chance.mean() > 0.3, "two images a class always suit some order"
    assert right_in_best_order(answers, labels, 20).mean() < by_chance.mean() / 2


def test_images_of_one_class_are_said():
    study = made_up(FAMILY[:1])
    one = {"logits": np.eye(2)[[1, 1, 0]], "labels": np.ones(3, int)}
    (finding,) = ask("accuracy", study, scope(study), lambda _: one).findings()
    assert finding.startswith("all 3 images are of class 'b'")


def test_a_network_that_puts_out_nan_is_left_out():
    study = made_up(FAMILY)
    spoilt = {"logits": np.array([[0.0, 1.0], [np.nan, 1.0]]), "labels": np.array([0, 1])}
    whole = {"logits": np.eye(2), "labels": np.array([0, 1])}
    result = ask(
        "accuracy",
        study,
        scope(study),
        lambda sight: spoilt if sight.subjects[0].run == "kd0" else whole,
    )
    assert [run.run for run in result.runs] == ["teacher", "baseline0"]
    (reason,) = result.lacking()
    assert reason.startswith("run 'kd0' puts out NaN or infinity for 1 of 2 images at epoch 2")
    with pytest.raises(Refused, match="run 'teacher' puts out NaN"):
        ask("accuracy", study, scope(study), lambda _: spoilt)
