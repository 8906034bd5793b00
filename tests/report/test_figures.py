"""What the page draws figures from: the panel's numbers, within limits that are told."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from specimen import specimen
from specimen_figures import FOREST, GRID, GROUND, HEAT, LINES, TABLE, figures

import kdprobe.metrics
from kdprobe.panels import Forest, Lines, Series
from kdprobe.report.colours import Colours
from kdprobe.report.document import chapters
from kdprobe.report.html import page
from kdprobe.report.interactive import MOST_HELD, MOST_NUMBERS, figure
from kdprobe.report.sections.effects import effects

COLOURS = Colours(figures())
DRAWN = {"Lines", "Heatmap", "Surface", "Forest"}


def data(panel):
    found = figure(panel, COLOURS)
    assert found
    return json.loads(json.dumps(found["data"], allow_nan=False))


def test_a_figure_holds_the_numbers_of_its_panel():
    lines = data(LINES)
    assert [line["y"] for line in lines["lines"]] == [[4, None, 1], [0.12346, 0.2, 30]]
    assert lines["lines"][0] | {"x": 0, "y": 0} == {
        "name": "kd", "ink": "student-0", "dash": 0, "x": 0, "y": 0,
        "low": [3, 1, 1], "high": [5, 2, 1],
    }  # fmt: skip
    assert "x" not in lines["lines"][1], "as the line before"
    assert data(HEAT)["z"] == [[0.5, None, 1], [0.25, 0, 0.75]]
    assert (data(HEAT)["low"], data(HEAT)["high"]) == (0, 1)
    assert data(GROUND)["across"] == data(GROUND)["up"] == list(GRID)
    assert data(GROUND)["tracks"][0]["labels"] == ["1", "2", "3"]
    assert data(FOREST)["rows"][0] == ["kd", "supported", 1.5, 0.5, 2.5]
    assert data(FOREST)["rows"][2] == ["none", "not applicable", None, None, None]
    assert figure(TABLE, COLOURS) is None


def test_numbers_keep_five_digits():
    random = np.random.default_rng(0)
    values = random.normal(size=200) * 10.0 ** random.integers(-8, 9, 200)
    series = Series(name="a", x=tuple(values), y=tuple(values))
    shown = data(Lines(title="t", x_label="", y_label="", series=(series,)))["lines"][0]["y"]
    np.testing.assert_allclose(shown, values, rtol=5.1e-5)


def curve(numbers):
    x = tuple(np.linspace(0, 1, numbers // 2))
    return Lines(title="Large", x_label="", y_label="", series=(Series(name="a", x=x, y=x),))


@pytest.mark.parametrize(
    ("numbers", "still", "held", "told"),
    [
        (MOST_NUMBERS, False, True, ""),
        (MOST_NUMBERS + 2, True, True, "20\u202f002 numbers are more than the 20\u202f000"),
        (MOST_HELD, True, True, "the buttons save them all the same"),
        (MOST_HELD + 2, True, False, "more than the 200\u202f000 that a figure of this page holds"),
    ],
)
def test_a_figure_of_too_many_numbers_is_still_and_says_so(numbers, still, held, told):
    found = figure(curve(numbers), COLOURS)
    assert found
    assert (bool(found["note"]), found["data"] is not None) == (still, held)
    assert told in found["note"]
    assert len(found["sketch"]) < 5000
    if numbers == MOST_HELD:
        return  # as the one before, and its page is large
    text = page(figures(curve(numbers))).split("<script>")[0]
    assert found["note"] in text
    assert text.count('class="plot"') == 1
    assert (" data-still" in text, "data-plot=" in text) == (still and held, held)


def test_every_figure_says_how_it_is_read():
    for chapter in chapters(specimen()):
        for panel in chapter.panels:
            if figure(panel, Colours(specimen())):
                assert panel.how_to_read, f"{chapter.title}: {panel.title}"


@pytest.mark.parametrize("file", sorted(Path(kdprobe.metrics.__path__[0]).glob("*.py")), ids=str)
def test_every_figure_of_every_metric_says_how_it_is_read(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in DRAWN:
            told = [entry.value for entry in node.keywords if entry.arg == "how_to_read"]
            assert told, f"line {node.lineno}: a figure without how_to_read"
            assert ast.unparse(told[0]) not in ("''", "f''")


def test_each_quantity_of_a_claim_has_a_plot_of_all_its_verdicts():
    found = {panel.title: panel for panel in effects(specimen())}
    assert list(found) == ["H1: N_fg", "H1: N_bg", "H1: λ", "H2: D_mean", "H2: D_var", "H3: ρ"]
    estimates = [
        (estimate.quantity, verdict.arm, verdict.layer, estimate.effect, estimate.outcome)
        for verdict in specimen().verdicts
        for estimate in verdict.estimates
    ]
    shown = [
        (title.split(": ")[1], *row.name.split(", "), row.value, row.verdict)
        for title, panel in found.items()
        if isinstance(panel, Forest)
        for row in panel.effects
    ]
    assert sorted(map(str, shown)) == sorted(map(str, estimates))
    assert "H1 wants it left" in found["H1: N_bg"].how_to_read
    assert effects(figures()) == [], "no verdict, no plot"
