"""When concepts peak: hand-made counts, and a study in which they appear one after another."""

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.metrics.contract import Discarding, as_values
from kdprobe.metrics.simultaneity import UNDEFINED, peaks, spread

CUT = Discarding(b=0.2, sweep=(0.2, 5.0), grid=2)
WALKED = np.array([0.0, 3.0, 4.0])


def study_seen(sight):
    """Image i of the student has its concept from checkpoint i on; the baseline's have none."""
    if sight.probe == "pictures":
        coverage = np.zeros((3, 2, 2))
        coverage[:, 0, 0] = 1
        return {"coverage": coverage, "labels": np.zeros(3), "pixels": None, "object": None}
    if sight.probe == "weights":
        walk = {"moved/logits": WALKED, "start/logits": np.array(2.0)}
        walk |= {"moved/": 2 * WALKED, "start/": np.array(8.0)}
        if sight.subjects[0].run == "kd0":
            walk["stepped/logits"] = 1.0 + 10 * WALKED
        return walk
    energy = np.ones((3, 2, 2))
    energy[:, 0, 0] = 0.1
    (subject,) = sight.subjects
    if subject.run == "kd0":
        energy[: subject.epoch + 1, 0, 0] = 9
    return {"energy/logits": energy, "error/logits": np.zeros_like(energy)}


@pytest.fixture
def result():
    study = made_up(FAMILY)
    asked = scope(study, layers=("logits",), discarding=CUT)
    return ask("simultaneity", study, asked, study_seen)


def test_the_first_of_the_largest_counts():
    counts = np.array([[1, 0, 3], [4, 0, 2], [4, 0, 3], [2, 0, 1]])  # (k, n)
    assert peaks(counts).tolist() == [1, UNDEFINED, 0]
    assert peaks(np.stack([counts, counts[::-1]])).tolist() == [[1, -1, 0], [1, -1, 1]]


def test_mean_and_variance_over_the_images_that_peak():
    path = np.array([0.0, 1.0, 4.0])
    assert spread(path, np.array([0, 1, 2, UNDEFINED])) == pytest.approx((5 / 3, 26 / 9))
    assert spread(path, np.array([2, 2])) == (4.0, 0.0)
    assert np.isnan(spread(path, np.array([UNDEFINED]))).all()


def test_concepts_that_appear_one_after_another(result):
    learned, idle = result.runs["kd0"]["logits"], result.runs["baseline0"]["logits"]
    assert learned.peak[0].tolist() == [0, 1, 2]
    assert (learned.peak[1] == UNDEFINED).all(), "no cell is kept by 5 nats"
    assert (idle.peak == UNDEFINED).all()
    np.testing.assert_allclose(learned.path, WALKED / 2)
    np.testing.assert_allclose(learned.path_all, WALKED / 4)
    np.testing.assert_allclose(learned.path_steps, 5 * WALKED)
    assert idle.path_steps is None
    assert "teacher" not in result.runs


def test_the_table_and_the_curve_tell_the_same(result):
    curve, table = result.panels()
    rows = {row[0]: row for row in table.rows}
    d = WALKED / 2
    assert rows["kd0"][2:4] == pytest.approx((d.mean(), d.var()), abs=1e-5)
    assert rows["kd0"][5] == pytest.approx(5 * WALKED.mean(), abs=1e-4)
    assert rows["kd0"][6] == pytest.approx(d.mean() / d[-1], abs=1e-5)
    assert rows["kd0"][7] == 0
    assert rows["baseline0"][2:] == (None, None, None, None, None, 3)
    lines = {series.name: series.y for series in curve.series}
    assert lines["kd"] == pytest.approx((1 / 3, 2 / 3, 1))
    assert lines["baseline"] == (0, 0, 0)
    assert "roles" not in as_values(result)
