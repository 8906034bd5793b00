"""What is measured of logits, against plain loops over images."""

import math

import pytest
import torch

from kdprobe.train.measuring import BINS, calibration_error, likeness, measured, named


def random_logits(n, c, seed, scale=2.0):
    return scale * torch.randn(n, c, generator=torch.Generator().manual_seed(seed))


def shares(row):
    """Softmax of a list."""
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize(("n", "c"), [(200, 10), (50, 3), (7, 5), (1, 2)])
def test_loss_accuracy_and_top5_are_those_of_a_loop(n, c):
    logits = random_logits(n, c, n)
    labels = torch.randint(0, c, (n,), generator=torch.Generator().manual_seed(1))
    loss = right = among = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        loss -= math.log(shares(row)[label]) / n
        order = sorted(range(c), key=lambda k, row=row: -row[k])
        right += (order[0] == label) / n
        among += (label in order[:5]) / n
    found = measured(logits, labels)
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert (found["accuracy"], found["top5"]) == pytest.approx((right, among))


@pytest.mark.parametrize("n", [1, 30, 400])
def test_the_calibration_error_is_that_of_a_loop(n):
    logits = random_logits(n, 4, n, scale=3.0)
    labels = torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(2))
    bins = [[] for _ in range(BINS)]
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        certain = max(shares(row))
        hit = row.index(max(row)) == label
        bins[min(int(certain * BINS), BINS - 1)].append((certain, hit))
    wanted = sum(
        len(found) / n * abs(mean(hit for _, hit in found) - mean(c for c, _ in found))
        for found in bins
        if found
    )
    assert measured(logits, labels)["ece"] == pytest.approx(wanted, abs=1e-6)


def mean(values):
    listed = list(values)
    return sum(listed) / len(listed)


def test_certain_and_always_right_or_wrong_are_0_and_1():
    sure = torch.eye(3) * 100
    assert float(calibration_error(sure, torch.ones(3, dtype=torch.bool))) == pytest.approx(0)
    assert float(calibration_error(sure, torch.zeros(3, dtype=torch.bool))) == pytest.approx(1)


def test_two_sides_of_one_bin_make_up_for_each_other_but_two_bins_do_not():
    def error(certain, right):
        logits = torch.tensor([[math.log(p), math.log(1 - p)] for p in certain])
        return float(calibration_error(logits, torch.tensor(right)))

    assert error([0.74, 0.74], [True, False]) == pytest.approx(0.24, abs=1e-6)
    assert error([0.61, 0.99], [True, False]) == pytest.approx((0.39 + 0.99) / 2, abs=1e-6)


def test_logits_that_are_not_finite_are_measured_without_a_crash():
    """The loop refuses them by their loss, with words."""
    logits = torch.tensor([[math.nan, 0.0], [0.0, 1.0]])
    assert math.isnan(measured(logits, torch.tensor([0, 1]))["loss"])


@pytest.mark.parametrize(("n", "c"), [(60, 10), (1, 2)])
def test_likeness_is_that_of_a_loop(n, c):
    ours, theirs = random_logits(n, c, 3), random_logits(n, c, 4)
    same = apart = 0.0
    for own, other in zip(ours.double().tolist(), theirs.double().tolist(), strict=True):
        p, q = shares(other), shares(own)
        apart += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / n
        same += (own.index(max(own)) == other.index(max(other))) / n
    found = likeness(ours, theirs)
    assert found["agreement"] == pytest.approx(same)
    assert found["teacher_kl"] == pytest.approx(apart, rel=1e-5)


def test_a_network_is_like_itself_and_the_kl_has_a_direction():
    ours, theirs = random_logits(20, 5, 5), random_logits(20, 5, 6)
    assert likeness(ours, ours) == {"agreement": 1.0, "teacher_kl": pytest.approx(0, abs=1e-6)}
    assert likeness(ours, theirs)["teacher_kl"] != likeness(theirs, ours)["teacher_kl"]


def test_numbers_are_named_and_missing_ones_are_none():
    numbers = {"loss": 1.0, "accuracy": 0.5}
    assert named("test", numbers, ("loss", "accuracy")) == {"test_loss": 1.0, "test_accuracy": 0.5}
    assert named("validation", None, ("loss", "ece")) == {
        "validation_loss": None,
        "validation_ece": None,
    }
