"""Curvature as numbers: densities and shares in closed form, effects, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from stage import ask, made_up, scope

from kdprobe.errors import Refused, UsageError
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.curvature import bend_of, error_of, negative_share
from kdprobe.metrics.curvature_page import WIDTH, Axis, density
from kdprobe.panels import Forest, Lines, Table
from kdprobe.study import Run

SEEDS = (0, 1, 2)
RUNS = [("teacher", "teacher", None)]
RUNS += [(arm, role, s) for arm, role in (("base", "baseline"), ("kd", "student")) for s in SEEDS]


def seen(scale: float = 1.0, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Two layers of 60 and 40 weights; eigenvalues 8, 4 and -2 apart, and 97 that are 0."""
    rule = np.array([[[8.0, 1], [4, 1], [-2, 1], [0, 97]]] * 2)
    rule[1, 2, 0] = -4
    numbers = {
        "eigenvalues": np.array([[8.0, 0.001], [4.0, 0.002]]),
        "least": np.array([-2.0, 0.01]),
        "groups": np.array([7.0, 9.0, 8.0, 8.0]),
        "known": np.array([5.0, 3.0]),
        "drawn": np.array([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0], [1.0, 0.0]]),
        "density": rule,
        "density_before": rule,
        "blocks": np.array([[6.0, 0.1], [3.0, 0.0]]),
    }
    of_scale = {name: value * scale for name, value in (numbers | changes).items()}
    of_scale["density"] = of_scale["density_before"] = rule * [scale, 1]
    counts = {"steps": 12, "sizes": [60, 40], "images": 5, "layer/a": 0, "layer/b": 1}
    return of_scale | {name: np.array(value) for name, value in counts.items()}


def scaled(wanted):
    """A student of a tenth of the baseline's curvature, half so much by the seed."""
    run = wanted.subjects[0].run
    return seen(
        (0.1 if run.startswith("kd") else 1.0) * 2.0 ** -int(run[-1:].isdigit() and run[-1])
    )


def test_the_numbers_of_a_run_in_closed_form():
    found = bend_of(seen())
    assert found.trace == pytest.approx(9)
    assert found.trace_error == pytest.approx(np.std([1, 3, -1, 1], ddof=1) / 2)
    assert found.image_error == pytest.approx(np.std([7, 9, 8, 8], ddof=1) / 2)
    assert found.draws == 4
    assert found.weights == 100
    assert found.layers["a"].trace == pytest.approx(6)
    assert found.layers["b"].trace_error == pytest.approx(np.std([0, 1, -1, 0], ddof=1) / 2)
    assert (found.layers["b"].top, found.layers["b"].top_bound) == (3.0, 0.0)
    assert found.negative_share == pytest.approx((2 / 14 + 4 / 16) / 2)
    assert found.negative_share_error == pytest.approx((4 / 16 - 2 / 14) / 2)


def test_the_error_of_the_share_knows_what_the_last_step_changed():
    numbers = seen()
    numbers["density_before"] = numbers["density"] * [-1, 1]
    change = negative_share(numbers["density"]) - negative_share(numbers["density_before"])
    wanted = np.hypot(error_of(negative_share(numbers["density"])), change.mean())
    assert bend_of(numbers).negative_share_error == pytest.approx(wanted)


def test_one_image_has_no_error_over_images():
    assert bend_of(seen(groups=np.array([8.0]))).image_error is None


def test_without_curvature_the_negative_share_is_zero():
    assert negative_share(np.zeros((2, 3, 2))).tolist() == [0.0, 0.0]


def test_a_density_integrates_to_one_and_every_eigenvalue_to_its_share():
    bends = {"a": bend_of(seen())}
    axis = Axis.over(bends)
    x = np.linspace(-6, 6, 20001)
    heights = density(bends["a"], axis, x)
    step = x[1] - x[0]
    np.testing.assert_allclose(heights.sum(1) * step, 1, rtol=1e-9)
    right = x > (axis.place(np.array(8.0)) + axis.place(np.array(4.0))) / 2
    np.testing.assert_allclose(heights[:, right].sum(1) * step, 0.01, rtol=0.01)


def test_the_axis_is_odd_and_grows_and_reaches_all():
    bends = {"a": bend_of(seen()), "b": bend_of(seen(50.0))}
    axis = Axis.over(bends)
    assert axis.unit == pytest.approx(0.1)
    values = np.linspace(-500, 500, 101)
    places = axis.place(values)
    np.testing.assert_allclose(places, -places[::-1])
    assert (np.diff(places) > 0).all()
    points = axis.points(bends)
    assert points[0] < axis.place(np.array(-100.0)) - 3 * WIDTH
    assert points[-1] > axis.place(np.array(400.0)) + 3 * WIDTH
    assert Axis.over({"flat": bend_of(seen(0.0))}).unit == 1


def test_effects_are_logarithms_of_ratios_over_seeds():
    study = made_up(RUNS)
    result = ask("curvature", study, scope(study), scaled)
    assert set(result.effects) == {"kd, largest eigenvalue", "kd, trace"}
    for effect in result.effects.values():
        assert effect.effect == pytest.approx(np.log(0.1))
        assert effect.seeds == 3
        assert effect.low == pytest.approx(np.log(0.1))


def test_networks_of_another_architecture_are_not_compared():
    study = made_up(RUNS)

    def other(run: Run) -> Run:
        entry = run.entry.network.model_copy(update={"name": "resnet20"})
        return replace(run, entry=run.entry.model_copy(update={"network": entry}))

    runs = tuple(other(run) if run.id == "kd0" else run for run in study.runs)
    study = replace(study, runs=runs)
    result = ask("curvature", study, scope(study), scaled)
    assert {one.seeds for one in result.effects.values()} == {2}
    assert not np.isfinite(result.effects["kd, trace"].low)


def test_a_trace_below_zero_has_no_logarithm():
    study = made_up(RUNS)

    def answer(wanted):
        low = wanted.subjects[0].run == "kd1"
        return seen(known=np.array([-20.0, 1.0])) if low else seen()

    result = ask("curvature", study, scope(study), answer)
    assert result.effects["kd, trace"].seeds == 2
    assert result.effects["kd, largest eigenvalue"].seeds == 3
    layers = next(p for p in result.panels() if p.title == "Curvature by layer")
    series = next(one for one in layers.series if one.name == "kd")
    assert series.y[0] is None
    assert series.y[1] is not None


def test_panels_show_densities_layers_effects_and_tables():
    study = made_up(RUNS)
    result = ask("curvature", study, scope(study), scaled)
    panels = result.panels()
    kinds = [type(panel) for panel in panels]
    assert kinds == [Lines, Lines, Forest, Table, Table]
    spectra, layers, _, by_run, by_layer = panels
    assert spectra.log_y
    teacher = next(one for one in spectra.series if one.name == "teacher")
    assert all(
        low <= y <= high for low, y, high in zip(teacher.low, teacher.y, teacher.high, strict=True)
    )
    assert all(value > 0 for one in spectra.series for value in one.low)
    assert layers.x_names == ("a", "b")
    assert len(by_layer.rows) == 14
    assert len(by_run.rows) == 7
    assert all(len(row) == len(by_run.columns) for row in by_run.rows)
    assert len(str(as_values(result))) < 20_000


def test_without_blocks_the_layers_have_no_eigenvalue():
    study = made_up(RUNS)

    def answer(wanted):
        return {name: value for name, value in seen().items() if name != "blocks"}

    inquiry = METRICS["curvature"].ask(study, scope(study), per_layer=False)
    sights = next(inquiry)
    assert all(dict(one.settings)["per_layer"] is False for one in sights)
    result = conclude(inquiry, {one: answer(one) for one in sights})
    assert result.panels()[-1].rows[0][-2:] == (None, None)


def rough(bound, error):
    """`bound` of the first eigenvalue, 8, and `error` of a trace that is 9."""
    drawn = np.array([[1.0, 0.0], [1.0, 0.0]]) + error * np.array([[1.0, 0.0], [-1.0, 0.0]])
    eigenvalues = np.array([[8.0, bound], [4.0, 0.002]])
    return seen(eigenvalues=eigenvalues, drawn=drawn)


def test_it_says_once_for_a_study_what_is_not_settled():
    study = made_up(RUNS)
    bounds = {"kd0": 0.5, "kd1": 2.0, "base2": 0.1}

    def answer(wanted):
        return rough(bounds.get(wanted.subjects[0].run, 0.001), 0.1)

    (told,) = ask("curvature", study, scope(study), answer, steps=12).findings()
    assert told.startswith(
        "the largest eigenvalues of 3 of 7 networks are not settled (worst 'kd1'"
    )
    assert "after 12 steps: bounds of 2, 0.002 on 8, 4" in told
    assert told.endswith("raise curvature.steps")


def test_it_says_once_for_a_study_which_traces_are_rough():
    study = made_up(RUNS)
    errors = {"kd0": 1.0, "base1": 3.0}

    def answer(wanted):
        return rough(0.001, errors.get(wanted.subjects[0].run, 0.1))

    (told,) = ask("curvature", study, scope(study), answer).findings()
    assert told.startswith("the traces of 2 of 7 networks have standard errors above 5% of them")
    assert "(worst 'base1': 9 ± 3 after 2 draws); raise curvature.draws" in told
    assert not ask("curvature", study, scope(study), answer, trace_tolerance=0.4).findings()
    bare = seen(known=np.array([0.0, -1.0]), drawn=np.array([[1.0, 1.0], [0.0, 0.0]]))
    flat = ask("curvature", study, scope(study), lambda _: bare)
    assert "networks have standard errors above" in flat.findings()[0], "a trace of 0 is no divisor"


def test_where_memory_ends_the_steps_more_are_not_advised():
    study = made_up(RUNS)
    (told,) = ask("curvature", study, scope(study), lambda _: rough(2.0, 0.1), steps=60).findings()
    assert "raise curvature.steps" not in told
    assert "memory or rounding allows no more than 12 of 60 steps: lower curvature.top" in told

    def mixed(wanted):
        student = wanted.subjects[0].run.startswith("kd")
        return rough(2.0, 0.1) | ({} if student else {"steps": np.array(60)})

    (told,) = ask("curvature", study, scope(study), mixed, steps=60).findings()
    assert (
        "raise curvature.steps; memory or rounding allows no more than 12 of 60 steps for 3 of them"
        in told
    )


def test_a_run_that_could_not_be_seen_is_named_and_the_rest_goes_on():
    study = made_up(RUNS)
    inquiry = METRICS["curvature"].ask(study, scope(study))
    sights = next(inquiry)

    class Some(dict):
        def __missing__(self, wanted):
            raise Refused("dropout in training mode")

    result = conclude(inquiry, Some({one: seen() for one in sights[1:]}))
    assert "teacher" not in result.runs
    assert result.lacking() == ["dropout in training mode"]
    assert result.panels()


@pytest.mark.parametrize(
    "settings",
    [{"draws": 1}, {"probes": 1}, {"tolerance": 0.0}, {"trace_tolerance": -0.1}],
)
def test_settings_without_a_meaning_are_refused(settings):
    study = made_up(RUNS)
    with pytest.raises(UsageError, match=f"curvature.{next(iter(settings))} is .*; wanted"):
        next(METRICS["curvature"].ask(study, scope(study), **settings))
