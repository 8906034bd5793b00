"""Curvature and rise of curves that are known."""

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import UsageError
from kdprobe.metrics.landscape import curvature, rise
from kdprobe.panels import Lines, Surface, Table

STEPS = np.linspace(-1, 1, 21)


@pytest.mark.parametrize("points", [3, 5, 21])
def test_the_curvature_of_a_parabola_is_exact(points):
    steps = np.linspace(-1, 1, points)
    bends = np.array([[0.0], [0.5], [7.0], [-2.0]])
    loss = 3.0 + 0.4 * steps + bends * steps**2
    np.testing.assert_allclose(curvature(steps, loss), 2 * bends[:, 0], atol=1e-12)


def test_the_curvature_of_a_cosine_is_near_and_nearer_on_a_finer_grid():
    off = []
    for points in (21, 41):
        steps = np.linspace(-1, 1, points)
        off.append(abs(curvature(steps, -np.cos(steps)[None])[0] - 1))
    assert off[0] < 1e-3
    assert off[1] == pytest.approx(off[0] / 4, rel=0.01)


def test_the_rise_is_the_largest_within_the_radius():
    loss = np.stack([STEPS**2, -(STEPS**2), 5 + STEPS, np.where(np.abs(STEPS) > 0.55, 99, 0)])
    np.testing.assert_allclose(rise(STEPS, loss, 0.5), [0.25, 0, 0.5, 0], atol=1e-12)


def seen(sight):
    steps = np.linspace(-1, 1, dict(sight.settings)["points"])
    if sight.probe == "slice_2d":
        loss = steps[:, None] ** 2 + 10 * steps[None] ** 2
        return {"steps": steps, "loss": loss, "images": np.array(7)}
    bends = np.array([1.0, 2.0, 6.0])[: dict(sight.settings)["directions"], None]
    return {"steps": steps, "loss": 0.5 + bends * steps**2, "images": np.array(7)}


def test_means_and_errors_are_over_directions():
    study = made_up([*FAMILY, ("kd", "student", 1)])
    result = ask("landscape", study, scope(study), seen)
    assert result.images == 7
    assert len(result.steps) == 21
    ground = result.runs["kd1"]
    bends = 2 * np.array([1.0, 2.0, 6.0])
    assert ground.centre == 0.5
    assert ground.curvature == pytest.approx(bends.mean())
    assert ground.curvature_error == pytest.approx(bends.std(ddof=1) / np.sqrt(3))
    assert ground.sharpness == pytest.approx(bends.mean() / 8)
    assert set(result.planes) == {"teacher", "baseline0", "kd0"}, "the first seed of every arm"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 20}, r"landscape\.points is 20; wanted an odd number of at least 3"),
        ({"points": 1}, r"landscape\.points is 1; wanted an odd number of at least 3"),
        ({"plane_points": 2}, r"landscape\.plane_points is 2; wanted an odd number"),
        ({"radius": 0.0}, r"landscape\.radius is 0; wanted a number above 0"),
        ({"radius": -1.0}, r"landscape\.radius is -1; wanted a number above 0"),
    ],
)
def test_a_grid_without_a_middle_is_refused_before_any_look(settings, message):
    study = made_up(FAMILY)
    with pytest.raises(UsageError, match=message):
        ask("landscape", study, scope(study), lambda _: pytest.fail("looked"), **settings)


def test_one_direction_has_no_error():
    study = made_up(FAMILY)
    ground = ask("landscape", study, scope(study), seen, directions=1).runs["kd0"]
    assert ground.curvature_error == ground.sharpness_error == 0


def test_the_page_shows_what_was_seen():
    study = made_up(FAMILY)
    lines, *planes, table = ask("landscape", study, scope(study), seen).panels()
    assert isinstance(lines, Lines)
    assert isinstance(table, Table)
    assert "a central difference at the step width, 0.1 filter norms" in table.how_to_read
    assert {series.name for series in lines.series} == {"teacher", "baseline", "kd"}
    assert lines.series[0].y == pytest.approx(tuple(0.5 + 3 * STEPS**2))
    assert all(isinstance(plane, Surface) for plane in planes)
    assert planes[0].z[0][5] == pytest.approx(0), "log10 of 1; rows are the second direction"
    assert planes[0].z[5][0] == pytest.approx(1)
    assert np.isfinite(planes[0].z[5][5]), "a loss of 0 has a logarithm on the page"
