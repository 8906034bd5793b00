"""Numbers of a slice against surfaces that are known."""

from dataclasses import replace

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import Refused, UsageError
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.metrics.ground import curvature, known, log_loss, negative, roughness, sharpness
from kdprobe.panels import Forest, Lines, Surface, Table

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


def plane(function, points: int = 11):
    """(1, p, p) a function of x and y on even steps from -1 to 1, rows = y."""
    steps = np.linspace(-1, 1, points)
    return steps, np.broadcast_to(function(steps[None], steps[:, None]), (points, points))[None]


def test_the_sharpness_is_the_largest_rise_in_the_disc_not_in_the_square():
    steps, loss = plane(lambda x, y: 3 + x + y)
    assert sharpness(steps, loss, 0.5)[0] == pytest.approx(0.2 + 0.4), "0.4 + 0.4 lies outside"
    steps, loss = plane(lambda x, y: 1 - x**2 - y**2)
    assert sharpness(steps, loss, 0.5)[0] == 0
    steps, loss = plane(lambda x, y: np.where(np.hypot(x, y) > 0.45, 99.0, x**2))
    assert sharpness(steps, loss, 0.4)[0] == pytest.approx(0.16), "a point on the circle counts"


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda x, y: x**2 + 3 * y**2, 0),
        (lambda x, y: x**2 - y**2, 1),
        (lambda x, y: x * y, 1),
        (lambda x, y: -(x**2) - 9 * y**2, 1),
        (lambda x, y: 1 + 2 * x - y, 0),
        (lambda x, y: x**2 - 0.04 * y**2, 0),
        (lambda x, y: x**2 - 0.06 * y**2, 1),
        (lambda x, y: 5 * x**2 + 5 * y**2 + 9.8 * x * y, 0),
        (lambda x, y: 5 * x**2 + 5 * y**2 + 11.5 * x * y, 1),
        (lambda x, y: (x - 0.1) ** 3 + 0 * y, 5 / 9),
    ],
)
def test_the_share_of_negative_curvature_is_that_of_the_exact_hessian(function, wanted):
    """The second differences of polynomials up to the third degree are exact."""
    assert negative(plane(function)[1])[0] == pytest.approx(wanted)


def test_what_the_error_of_the_loss_could_make_is_no_curvature():
    chance = np.random.default_rng(0)
    loss = 2.0 * (1 + 1e-7 * chance.uniform(-1, 1, (1, 21, 21)))
    assert negative(loss)[0] == 0
    loss = 2.0 * (1 + 1e-3 * chance.uniform(-1, 1, (1, 21, 21)))
    assert negative(loss)[0] > 0.5
    assert negative(loss, off=1e-3)[0] == 0
    saddle = plane(lambda x, y: 0.1 * x * y, 21)[1]
    assert negative(saddle, off=1e-6)[0] == 1


def test_roughness_in_closed_form():
    assert roughness(plane(lambda x, y: 3 * x - y)[1])[0] == pytest.approx(0, abs=1e-12)
    zigzag = plane(lambda x, y: np.round(5 * x + 5) % 2 + np.round(5 * y + 5) % 2)[1]
    assert roughness(zigzag)[0] == pytest.approx(2)
    steps, bowl = plane(lambda x, y: x**2 + y**2)
    width, first = 0.2, np.abs(np.diff(steps**2)).mean()
    assert roughness(bowl)[0] == pytest.approx(2 * width**2 / first)
    assert np.isnan(roughness(np.ones((1, 5, 5))))[0]


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_shares_and_roughness_have_no_unit(scale):
    loss = np.random.default_rng(0).normal(size=(4, 9, 9))
    np.testing.assert_allclose(roughness(scale * loss), roughness(loss))
    np.testing.assert_allclose(negative(scale * loss), negative(loss))
    turned = loss.swapaxes(1, 2)[:, ::-1]
    np.testing.assert_allclose(roughness(turned), roughness(loss))
    np.testing.assert_allclose(negative(turned), negative(loss))


def test_the_logarithm_of_a_surface_has_no_hole_but_where_there_is_none():
    assert log_loss(np.array([[0.0, 100.0], [np.inf, np.nan]])) == ((-6.0, 2.0), (None, None))
    assert known(float("nan")) is None
    assert known(None) is None


BENDS = np.array([1.0, 2.0, 6.0])


def seen(sight):
    told = dict(sight.settings)
    steps = np.linspace(-1, 1, told["points"])
    if sight.probe == "slice_2d":
        arm = 2.0 if sight.subjects[0].run.startswith("kd") else 1.0
        bowl = steps[:, None] ** 2 + 10 * steps[None] ** 2
        loss = arm * BENDS[: told["pairs"], None, None] * bowl
        return {"steps": steps, "loss": loss, "off": np.array(1e-7)}
    loss = 0.5 + BENDS[: told["directions"], None] * steps**2
    return {"steps": steps, "loss": loss, "images": np.array(7), "off": np.array(2e-7)}


def test_means_and_errors_are_over_directions():
    study = made_up([*FAMILY, ("kd", "student", 1)])
    result = ask("landscape", study, scope(study), seen)
    assert result.images == 7
    assert len(result.steps) == 21
    ground = result.runs["kd1"]
    assert ground.centre == 0.5
    assert ground.curvature == pytest.approx(2 * BENDS.mean())
    assert ground.curvature_error == pytest.approx(2 * BENDS.std(ddof=1) / np.sqrt(3))
    up = 2 * BENDS * (10 * 0.4**2 + 0.2**2)
    assert ground.sharpness == pytest.approx(up.mean())
    assert ground.sharpness_error == pytest.approx(up.std(ddof=1) / np.sqrt(3))
    assert (ground.negative, ground.pairs, ground.off) == (0, 3, 2e-7)
    assert set(result.planes) == {"teacher", "baseline0", "kd0"}, "the first seed of every arm"
    assert result.runs["teacher"].pairs == 1
    assert result.runs["teacher"].sharpness_error is None


def test_effects_are_over_seeds_of_one_architecture():
    seeds = [(arm, role, s) for arm, role in (("b", "baseline"), ("kd", "student")) for s in (0, 1)]
    study = made_up(seeds)
    effect = ask("landscape", study, scope(study), seen).effects["sharpness"]["kd"]
    assert effect.effect == pytest.approx(BENDS.mean() * (10 * 0.4**2 + 0.2**2))
    assert effect.seeds == 2
    assert np.isnan(effect.low), "two seeds have no interval"
    other = study.runs[2].entry.network.model_copy(update={"name": "resnet14"})
    entry = study.runs[2].entry.model_copy(update={"network": other})
    runs = (*study.runs[:2], replace(study.runs[2], entry=entry), study.runs[3])
    effects = ask("landscape", replace(study, runs=runs), scope(study), seen).effects
    assert effects["roughness"]["kd"].seeds == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 20}, r"landscape\.points is 20; wanted an odd number of at least 3"),
        ({"points": 1}, r"landscape\.points is 1; wanted an odd number of at least 3"),
        ({"plane_points": 2}, r"landscape\.plane_points is 2; wanted an odd number"),
        ({"radius": 0.0}, r"landscape\.radius is 0; wanted a number above 0"),
        ({"radius": -1.0}, r"landscape\.radius is -1; wanted a number above 0"),
        ({"within": 0.0}, r"landscape\.within is 0; wanted above 0 and at most"),
        ({"within": 2.0}, r"landscape\.within is 2; wanted above 0 and at most .*radius, 1"),
        (
            {"normalisation": "layers"},
            r"landscape\.normalisation is 'layers'; wanted filter, layer",
        ),
        ({"precision": "fp16"}, r"landscape\.precision is 'fp16'; wanted float32, bf16"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_look(settings, message):
    study = made_up(FAMILY)
    with pytest.raises(UsageError, match=message):
        ask("landscape", study, scope(study), lambda _: pytest.fail("looked"), **settings)


def test_one_direction_has_no_error():
    study = made_up(FAMILY)
    ground = ask("landscape", study, scope(study), seen, directions=1, pairs=1).runs["kd0"]
    assert ground.curvature_error is None
    assert ground.sharpness_error is None


def test_a_network_that_could_not_be_looked_at_is_left_out():
    study, lost = made_up(FAMILY), "found fog; wanted light; wait"
    inquiry = METRICS["landscape"].ask(study, scope(study))
    sights = next(inquiry)

    class Foggy(dict):
        def __getitem__(self, sight):
            if sight.subjects[0].run == "kd0" and sight.probe == "slice_2d":
                raise Refused(lost)
            return super().__getitem__(sight)

    result = conclude(inquiry, Foggy({sight: seen(sight) for sight in sights}))
    assert set(result.runs) == {"teacher", "baseline0"}
    assert result.lacking() == [lost]
    assert result.panels()


def test_the_page_shows_what_was_seen():
    study = made_up(FAMILY)
    lines, *planes, forest, effects, table = ask("landscape", study, scope(study), seen).panels()
    assert isinstance(lines, Lines)
    assert isinstance(table, Table)
    assert isinstance(forest, Forest)
    assert len(effects.rows) == 3
    assert "a central difference at the step width, 0.1" in table.how_to_read
    assert "off by at most 2.0e-07" in table.how_to_read
    assert {series.name for series in lines.series} == {"teacher", "baseline", "kd"}
    assert lines.series[0].y == pytest.approx(tuple(0.5 + 3 * STEPS**2))
    assert all(isinstance(plane, Surface) for plane in planes)
    assert planes[0].z[0][5] == pytest.approx(0), "log10 of 1; rows are the second direction"
    assert planes[0].z[5][0] == pytest.approx(1)
    assert np.isfinite(planes[0].z[5][5]), "a loss of 0 has a logarithm on the page"


def test_the_length_of_a_step_is_said():
    study = made_up(FAMILY)
    result = ask("landscape", study, scope(study), seen, normalisation="none")
    assert "as long as all weights together" in result.panels()[0].how_to_read
