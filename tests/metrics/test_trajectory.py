"""Paths of training against random walks and straight lines."""

import numpy as np
import pytest
from stage import ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.trajectory import walk_at_random
from kdprobe.panels import Forest, Surface

RUNS = [(a, r, s) for a, r in (("b", "baseline"), ("kd", "student")) for s in (0, 1, 2)]


def test_a_long_random_walk_has_the_known_parts():
    """6 / (pi i)^2 of the i-th component (Antognini and Sohl-Dickstein 2018)."""
    parts, straight = walk_at_random(np.ones(2000))
    wanted = 6 / (np.pi * np.arange(1, 6)) ** 2
    np.testing.assert_allclose(parts[:5], wanted, rtol=2e-3)
    assert parts.sum() == pytest.approx(1)
    assert straight == pytest.approx(2000**-0.5)


def test_a_random_walk_that_is_walked_has_the_same_parts():
    lengths = np.array([3.0, 1.0, 2.0, 0.5, 0.1])
    chance, dimensions = np.random.default_rng(0), 40_000
    steps = chance.normal(size=(5, dimensions))
    steps *= (lengths / np.linalg.norm(steps, axis=1))[:, None]
    points = np.concatenate([np.zeros((1, dimensions)), steps.cumsum(0)])
    sizes = np.linalg.svd(points - points.mean(0), compute_uv=False)[:5] ** 2
    parts, straight = walk_at_random(lengths)
    np.testing.assert_allclose(parts, sizes / sizes.sum(), atol=0.01)
    assert straight == pytest.approx(np.linalg.norm(points[-1]) / lengths.sum(), rel=0.02)


def seen(sight):
    straight = 0.75 if sight.subjects[0].run.startswith("kd") else 0.5
    if sight.probe == "route":
        lengths = np.array([1.0, 3.0])
        return {
            "parts": np.array([0.9, 0.1]),
            "lengths": lengths,
            "displacement": np.array(4 * straight),
        }
    points = dict(sight.settings)["points"]
    grid = np.linspace(0, 1, points)
    loss = np.full((points, points), 10.0)
    return {"x": grid, "y": 2 * grid, "loss": loss, "marks": np.array([[1, 2], [3, 4], [0, 0]])}


def test_students_are_straighter_by_the_difference():
    study = made_up(RUNS)
    result = ask("trajectory", study, scope(study), seen, points=3)
    assert result.runs["kd1"].straightness == 0.75
    assert result.runs["kd1"].length == 4
    assert result.runs["kd1"].chance_straightness == pytest.approx(10**0.5 / 4)
    assert result.effects["kd"].effect == pytest.approx(0.25)
    assert result.effects["kd"].seeds == 3
    assert set(result.planes) == {"b0", "kd0"}, "the first seed of every arm"
    first, second, forest, table = result.panels()
    assert isinstance(first, Surface)
    assert isinstance(forest, Forest)
    assert (first.title, second.title) == ("The way of b0", "The way of kd0")
    (track,) = second.tracks
    assert (track.x, track.y, track.labels) == ((1, 3, 0), (2, 4, 0), ("0", "1", "2"))
    assert track.role == "student"
    assert second.z[0][0] == 1
    assert table.rows[0][:3] == ("b0", 3, 90.0)


def test_runs_of_two_checkpoints_have_no_plane():
    study = made_up(RUNS, epochs=(0, 1))
    with pytest.raises(NotApplicable, match="at least 3 checkpoints; found at most 2"):
        ask("trajectory", study, scope(study), seen)
    alone = made_up([("t", "teacher", None)])
    with pytest.raises(NotApplicable, match="found at most 0"):
        ask("trajectory", alone, scope(alone), seen)


def test_what_cannot_be_measured_is_refused_before_any_look():
    study = made_up(RUNS)
    with pytest.raises(UsageError, match=r"trajectory\.points is 1; wanted at least 2"):
        ask("trajectory", study, scope(study), seen, points=1)
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 2"):
        ask("trajectory", study, scope(study), seen, images=2)


def test_a_run_whose_checkpoints_span_no_plane_is_left_out():
    study = made_up(RUNS)
    inquiry = METRICS["trajectory"].ask(study, scope(study))
    sights = next(inquiry)

    class Foggy(dict):
        def __getitem__(self, sight):
            if sight.subjects[0].run == "kd0":
                raise Refused("found checkpoints on one line")
            return super().__getitem__(sight)

    result = conclude(inquiry, Foggy({sight: seen(sight) for sight in sights}))
    assert "kd0" not in result.runs
    assert set(result.planes) == {"b0"}
    assert result.effects["kd"].seeds == 2
    assert result.lacking() == ["found checkpoints on one line"]


def test_paths_stand_where_no_plane_could_be_seen():
    study = made_up(RUNS)
    inquiry = METRICS["trajectory"].ask(study, scope(study))
    sights = next(inquiry)

    class Blind(dict):
        def __getitem__(self, sight):
            if sight.probe == "route_plane":
                raise Refused("found a loss that is not finite")
            return super().__getitem__(sight)

    result = conclude(inquiry, Blind({sight: seen(sight) for sight in sights}))
    assert len(result.runs) == 6
    assert result.effects["kd"].effect == pytest.approx(0.25)
    assert [panel.kind for panel in result.panels()] == ["forest", "table"]
    assert result.lacking() == ["found a loss that is not finite"]


def test_a_study_without_any_path_is_refused():
    study = made_up(RUNS)

    class Nothing(dict):
        def __getitem__(self, sight):
            raise Refused("gone")

    inquiry = METRICS["trajectory"].ask(study, scope(study))
    next(inquiry)
    with pytest.raises(Refused, match="gone"):
        conclude(inquiry, Nothing())
