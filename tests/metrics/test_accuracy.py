"""Accuracy and cross-entropy against torch, and the error of a share against simulation."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from stage import FAMILY, ask, made_up, scope
from torch.nn.functional import cross_entropy

from kdprobe.metrics.accuracy import log_softmax, proportion_error
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
