"""Are the numbers those of the metrics?  By hand, and by the tables that the metrics show."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from comparable import report, results
from handmade import FAST

from kdprobe.comparing.quantities import QUANTITIES
from kdprobe.comparing.reading import scalars
from kdprobe.metrics.contract import METRICS
from kdprobe.panels import Table
from kdprobe.results import MetricReport, Results

Found = dict[tuple[str, str, tuple[tuple[str, str], ...]], float]


def found(of: Results) -> Found:
    return {(s.quantity.name, s.run, s.at): s.value for s in scalars(of)}


def only(metric: MetricReport) -> Results:
    return results().model_copy(update={"metrics": (metric,)})


def test_quantities_have_names_of_their_own_and_metrics_that_exist():
    names = [quantity.name for quantity in QUANTITIES]
    assert len(set(names)) == len(names)
    assert {quantity.metric for quantity in QUANTITIES} <= set(METRICS)
    assert all(quantity.meaning for quantity in QUANTITIES)


def test_every_kind_of_place_is_read():
    of = found(results(gains={"kd": 0.0}))
    assert len(of) == len(scalars(results()))
    assert ("accuracy", "kd-seed0", ()) in of
    assert ("cka", "kd-seed0", (("layer", "logits"),)) in of
    assert of["rho_persistent", "kd-seed1", (("layer", "stage3"),)] == 0.5
    assert not any(key[:2] == ("cka", "teacher") for key in of)


def test_cka_is_that_of_the_layer_of_the_same_name():
    values = {
        "teacher_layers": ["b", "a"],
        "runs": {"one": {"layers": ["a", "c", "b"], "cka": [[1, 2], [3, 4], [5, 6]]}},
    }
    of = found(only(report("cka", values)))
    assert of == {
        ("cka", "one", (("layer", "a"),)): 2.0,
        ("cka", "one", (("layer", "b"),)): 5.0,
    }


def test_means_over_images_leave_out_what_is_not_defined():
    layer = {"foreground": [[1, 3, None]], "background": [[3, 0, 0]], "auroc": [None, 0.5]}
    values = {"headline": 0, "runs": {"one": {"l": layer}}}
    of = found(only(report("concepts", values)))
    at = (("layer", "l"),)
    assert of["N_fg", "one", at] == 2.0
    assert of["N_bg", "one", at] == 1.0
    assert of["lambda", "one", at] == (1 / 4 + 3 / 3) / 2
    assert of["auroc", "one", at] == 0.5


def test_weight_distance_is_the_path_at_each_peak():
    layer = {"peak": [[9, 9], [2, 0, -1, 2]], "path": [0.0, 0.5, 2.0]}
    of = found(only(report("simultaneity", {"headline": 1, "runs": {"one": {"l": layer}}})))
    assert of["D_mean", "one", (("layer", "l"),)] == pytest.approx(4 / 3)
    assert of["D_var", "one", (("layer", "l"),)] == pytest.approx(8 / 9)


def test_a_metric_of_a_third_party_is_read_by_itself():
    of = found(only(results().metrics[-1]))
    assert {key[0] for key in of} == {"theirs.speed", "theirs.size"}
    assert of["theirs.size", "teacher", ()] == 3


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"runs": None},
        {"runs": {"one": None}},
        {"runs": [{"accuracy": 1.0}]},
        {"runs": [{"run": "one", "accuracy": None}]},
        {"runs": [{"run": "one", "accuracy": True}]},
        {"runs": [{"run": "one", "accuracy": "0.9"}]},
        {"runs": [{"run": "one", "accuracy": {"value": 1.0}}]},
    ],
)
def test_what_is_no_number_is_left_out(values):
    assert scalars(only(report("accuracy", values))) == []


@pytest.mark.parametrize("key", ["concepts", "simultaneity", "cka", "curvature", "similarity"])
@pytest.mark.parametrize("layer", [None, [], {}, 3, {"peak": [[0]], "path": []}, {"cka": [[1]]}])
def test_values_of_another_shape_are_not_misread(key, layer):
    values = {"headline": 0, "runs": {"one": {"l": layer, "layers": layer, "cka": layer}}}
    for scalar in scalars(only(report(key, values))):
        assert math.isfinite(scalar.value)


def test_a_metric_that_is_not_applicable_has_no_numbers():
    assert not any(key[0] == "rho" for key in found(results(without=("stability",))))


COLUMNS: Mapping[str, tuple[str, str, float]] = {  # quantity -> table, column, and its scale
    "accuracy": ("accuracy", "accuracy %", 0.01),
    "agreement": ("fidelity", "agreement %", 0.01),
    "ece": ("calibration", "ECE %", 0.01),
    "N_fg": ("concepts", "N_fg", 1.0),
    "N_bg": ("concepts", "N_bg", 1.0),
    "lambda": ("concepts", "λ", 1.0),
    "D_mean": ("simultaneity", "D_mean", 1.0),
    "D_var": ("simultaneity", "D_var", 1.0),
    "rho": ("stability", "ρ", 1.0),
    "cka": ("cka", "CKA with teacher", 1.0),
    "effective_rank": ("dimension", "effective rank", 1.0),
    "probe_accuracy": ("readout", "accuracy %", 0.01),
    "sharpness": ("landscape", "sharpness", 1.0),
    "trace": ("curvature", "trace", 1.0),
    "top_eigenvalue": ("curvature", "largest eigenvalue", 1.0),
    "straightness": ("trajectory", "straightness", 1.0),
}


@pytest.mark.slow
def test_every_declared_number_is_found_in_a_real_analysis(tiny_study: Path, tmp_path: Path):
    from kdprobe.api import analyze

    of = analyze(tiny_study, out=tmp_path, images=4, settings=FAST, report=False)
    every = scalars(of)
    measured = {metric.key for metric in of.metrics if metric.status == "measured"}
    names = {quantity.name for quantity in QUANTITIES if quantity.metric in measured}
    rare = {"transfer", "temperature"}  # nobody was fooled, no best one on so few images
    assert names - rare <= {scalar.quantity.name for scalar in every}
    for name, (table, column, scale) in COLUMNS.items():
        shown = _shown(of, table, column)
        mine = {
            (s.run, dict(s.at).get("layer", "")): s.value for s in every if s.quantity.name == name
        }
        assert mine
        for place, value in mine.items():
            assert any(
                value == pytest.approx(scale * number, rel=2e-3, abs=6e-4 * max(scale, 0.1))
                for number in shown[place]
            ), (name, place)


def _shown(of: Results, name: str, column: str) -> dict[tuple[str, str], list[Any]]:
    """The numbers of a table's column, by run and layer (one a threshold)."""
    tables = (p for m in of.metrics for p in m.panels if isinstance(p, Table) and p.name == name)
    table = next(tables)
    at, layer = table.columns.index(column), "layer" in table.columns
    found: dict[tuple[str, str], list[Any]] = {}
    for row in table.rows:
        key = (str(row[0]), str(row[1]) if layer else "")
        if row[at] is not None:
            found.setdefault(key, []).append(row[at])
    return found
