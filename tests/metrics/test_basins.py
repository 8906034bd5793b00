"""Triangles of networks: who is a corner, and heights in closed form."""

import numpy as np
import pytest
from stage import ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.basins import MIXTURE, REFERENCE, threes
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.panels import Surface
from kdprobe.probes.planes import TRIANGLE


def learners(*arms, seeds=(0, 1, 2)):
    return [(arm, role, seed) for arm, role in arms for seed in seeds]


FULL = learners(("b", "baseline"), ("kd", "student"), ("feature", "student"))


def corners(study):
    return {tuple(run.id for run in three): group for three, group in threes(study).items()}


def test_every_seed_has_a_triangle_and_so_have_the_baselines():
    assert corners(made_up([("t", "teacher", None), *FULL])) == {
        ("b0", "kd0", "feature0"): "seed 0",
        ("b1", "kd1", "feature1"): "seed 1",
        ("b2", "kd2", "feature2"): "seed 2",
        ("b0", "b1", "b2"): REFERENCE,
    }


def test_a_control_or_another_baseline_stands_in_for_a_missing_student():
    two = (0, 1)
    study = made_up(learners(("b", "baseline"), ("kd", "student"), ("c", "control"), seeds=two))
    assert corners(study) == {("b0", "kd0", "c0"): "seed 0", ("b1", "kd1", "c1"): "seed 1"}
    study = made_up(learners(("b", "baseline"), ("kd", "student"), seeds=two))
    assert corners(study) == {("b0", "kd0", "b1"): "seed 0", ("b1", "kd1", "b0"): "seed 1"}
    study = made_up(learners(("b", "baseline"), ("kd", "student"), seeds=(0,)))
    assert corners(study) == {}


def test_the_places_are_those_that_the_probe_looks_at():
    shares = np.array([(1 - x - y, x, y) for x, y in TRIANGLE])
    np.testing.assert_allclose(shares, MIXTURE, atol=1e-12)


def seen(sight):
    if sight.probe == "triangle":
        gain = 5.0 if all(c.run.startswith("b") for c in sight.subjects) else 1.0
        corners = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 7.0]])
        bump = gain * np.array([0, 0, 0, 1, 2, 3, 4])[:, None] * np.array([0.5, 1.5])
        return {"loss": MIXTURE @ corners + bump, "sides": np.array([3.0, 4.0, 5.0])}
    points = dict(sight.settings)["points"]
    grid = np.linspace(0, 1, points)
    marks = np.array([[0.0, 0.0], [3.0, 0.0], [1.0, 2.0]])
    return {"x": grid, "y": grid, "loss": np.full((points, points), 0.1), "marks": marks}


def test_heights_are_above_the_mixture_of_the_corners():
    study = made_up(FULL)
    result = ask("basins", study, scope(study), seen, points=4)
    first = result.triangles[0]
    assert first.loss == (2.0, 2.0, 5.0)
    assert [h.value for h in (*first.between, first.centre)] == pytest.approx([1, 2, 3, 4])
    assert first.centre.error == pytest.approx(2.0)
    assert first.sides == (3.0, 4.0, 5.0)
    assert result.images == 2
    reference = result.triangles[-1]
    assert reference.group == REFERENCE
    assert reference.centre.value == pytest.approx(20)


def test_every_network_is_marked_on_the_plane():
    study = made_up(FULL)
    one, reference, table = ask("basins", study, scope(study), seen, points=4).panels()
    assert isinstance(one, Surface)
    assert [(t.name, t.x, t.y, t.role) for t in one.tracks] == [
        ("b0", (0.0,), (0.0,), "baseline"),
        ("kd0", (3.0,), (0.0,), "student"),
        ("feature0", (1.0,), (2.0,), "student"),
    ]
    assert one.z[0][0] == pytest.approx(-1)
    assert [t.name for t in reference.tracks] == ["b0", "b1", "b2"]
    assert len(table.rows) == 4
    assert len(table.rows[0]) == len(table.columns)


def test_what_cannot_be_measured_is_refused_before_any_look():
    study, alone = made_up(FULL), made_up(learners(("b", "baseline"), seeds=(0, 1)))
    with pytest.raises(NotApplicable, match="needs a baseline and two other learners"):
        ask("basins", alone, scope(alone), seen)
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 3"):
        ask("basins", study, scope(study), seen, images=3)
    with pytest.raises(UsageError, match=r"basins\.points is 1; wanted at least 2"):
        ask("basins", study, scope(study), seen, points=1)


def test_a_triangle_that_is_a_line_is_left_out():
    study = made_up(FULL)
    inquiry = METRICS["basins"].ask(study, scope(study))
    sights = next(inquiry)

    class Foggy(dict):
        def __getitem__(self, sight):
            if sight.subjects[1].run == "kd0":
                raise Refused("found three networks on one line")
            return super().__getitem__(sight)

    result = conclude(inquiry, Foggy({sight: seen(sight) for sight in sights}))
    assert [t.group for t in result.triangles] == ["seed 1", "seed 2", REFERENCE]
    assert result.lacking() == ["found three networks on one line"]
    assert len(result.panels()) == 2
