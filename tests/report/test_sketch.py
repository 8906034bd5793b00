"""Sketches are small, whole, in the theme's colours, and their points stand where values are."""

import re
from math import log10
from xml.etree import ElementTree

import numpy as np
import pytest
from hostile import hostile
from specimen import specimen
from specimen_figures import FIGURES, FOREST, HEAT, LINES, TABLE, figures

from kdprobe.panels import Effect, Forest, Heatmap, Lines, Panel, Series, Surface
from kdprobe.report.colours import PRINT, Colours
from kdprobe.report.document import chapters
from kdprobe.report.printed import printed
from kdprobe.report.sketch import sketch
from kdprobe.report.sketch_axes import Scale, round_values, scale
from kdprobe.report.sketch_lines import NEAR, thinned
from kdprobe.report.sketch_maps import finer

COLOURS = Colours(figures())
SMALL = 5_000  # bytes of a sketch, on average


def drawn(panel: Panel) -> ElementTree.Element:
    return ElementTree.fromstring(sketch(panel, COLOURS, 300))


@pytest.mark.parametrize("results", [specimen(), hostile(), figures()])
def test_every_figure_has_a_small_sketch(results):
    panels = [panel for chapter in chapters(results) for panel in chapter.panels]
    sizes = []
    for panel in panels:
        made = sketch(panel, Colours(results), 300)
        if isinstance(panel, Lines | Heatmap | Surface | Forest):
            ElementTree.fromstring(made)
            sizes.append(len(made.encode()))
            assert made == sketch(panel, Colours(results), 300)
            assert "nan" not in re.sub(r">[^<]*<", "", made)
        else:
            assert made == ""
    assert np.mean(sizes) < SMALL


def test_colours_are_those_of_the_theme():
    found = set(re.findall(r"var\(--([\w-]+)\)", "".join(sketch(p, COLOURS, 300) for p in FIGURES)))
    outcomes = {"supported", "plain"}
    assert found - outcomes <= {name + end for name in PRINT for end in ("", "-band")}
    assert {"student-0", "student-0-band"} | outcomes <= found


def test_a_table_and_a_figure_of_nothing():
    assert sketch(TABLE, COLOURS, 300) == ""
    nothing = Lines(title="t", x_label="", y_label="", series=())
    bare = Heatmap(title="t", values=(), rows=(), columns=())
    unknown = Surface(title="t", x=(0, 1), y=(0, 1), z=((None, None), (None, 1)))
    for panel in (nothing, bare, unknown, Forest(title="t", x_label="", effects=())):
        drawn(panel)


@pytest.mark.parametrize("log", [False, True])
def test_a_scale_goes_through_its_ends(log):
    found = Scale(0.1, 1000.0, 20, 120, log=log)
    assert (found(0.1), found(1000.0)) == (pytest.approx(20), pytest.approx(120))
    middle = 20 + 100 * (1 + 1) / 4 if log else 20 + 100 * 9.9 / 999.9
    assert found(10.0) == pytest.approx(middle)
    assert all(0.1 <= tick <= 1000 for tick in found.ticks(6))
    if log:
        assert all(log10(tick).is_integer() for tick in found.ticks(6))


@pytest.mark.parametrize("seed", range(20))
def test_ticks_are_round_even_and_few(seed):
    random = np.random.default_rng(seed)
    low = random.normal() * 10.0 ** random.integers(-4, 5)
    high = low + 10.0 ** random.uniform(-4, 5)
    ticks = round_values(low, high, 6)
    assert 2 <= len(ticks) <= 6
    assert low - 1e-9 * abs(low) <= ticks[0]
    assert ticks[-1] <= high + 1e-9 * abs(high)
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)


def test_a_scale_of_one_value_of_none_and_of_no_positive_one():
    assert scale([5.0], 0, 100)(5.0) == pytest.approx(50)
    assert scale([], 0, 100).low < 0 < 1 < scale([], 0, 100).high
    assert scale([-1.0, None], 0, 100, log=True).low > 0
    assert round_values(1.0, 1.0, 6) == [1.0]


def test_thinning_keeps_the_way():
    x = np.linspace(0, 400, 300)
    points = list(zip(x, 100 + 80 * np.sin(x / 30), strict=True))
    kept = thinned(points)
    assert len(kept) < 100
    between = np.interp(x, *np.array(kept).T)
    steepest = np.hypot(1, 80 / 30)  # an error across the way is at most so much larger upwards
    assert np.abs(between - [y for _, y in points]).max() <= NEAR * steepest + 1e-9
    assert thinned([(i, 2.0 * i) for i in range(100)]) == [(0, 0.0), (99, 198.0)]
    assert thinned(points[:30]) == points[:30], "few points are all kept"


def test_a_finer_surface_is_the_bilinear_one():
    nodes = np.arange(5.0)
    y, x = np.meshgrid(nodes, nodes, indexing="ij")
    found = finer(2 + 3 * x - y + x * y)
    at = (np.arange(30) + 0.5) / 30 * 4
    y, x = np.meshgrid(at, at, indexing="ij")
    np.testing.assert_allclose(found, 2 + 3 * x - y + x * y)
    gap = np.where((np.arange(5) == 2)[:, None] & (np.arange(5) == 2), np.nan, 1.0)
    assert np.isnan(finer(gap)).mean() == pytest.approx(4 / 16, abs=0.05), "the cells around it"
    assert finer(np.ones((1, 1))).shape == (1, 1)


def test_names_that_no_drawing_could_hold():
    """Signs that XML forbids are left out; what looks like a colour of the theme stays a name."""
    row = Effect(name="a\x0bb\ufffe var(--a)", value=1.0, low=None, high=None)
    panel = Forest(title="t", x_label="x", effects=(row,))
    assert "ab var(--a)" in "".join(drawn(panel).itertext())
    assert "ab var(--a)" in "".join(ElementTree.fromstring(printed(panel, COLOURS)).itertext())


@pytest.mark.parametrize("values", [((0.001, 0.009),), ((200.0, 300.0),)])
def test_cells_without_given_ends_take_those_of_their_values(values):
    panel = HEAT.model_copy(update={"values": values, "rows": ("a",), "columns": ("u", "v")})
    assert panel.span == values[0]
    assert [f"{end:g}" in [e.text for e in drawn(panel).iter()] for end in values[0]] == [
        True,
        True,
    ]


def test_rows_without_columns_are_drawn_too():
    drawn(HEAT.model_copy(update={"values": ((), ()), "columns": ()}))


def test_cells_cover_what_is_known():
    paths = [e for e in drawn(HEAT).iter() if re.fullmatch(r"h\d", e.get("class", ""))]
    blocks = re.findall(r"M(\d+) (\d+)H(\d+)V(\d+)H\d+z", " ".join(p.get("d", "") for p in paths))
    areas = [(int(c) - int(a)) * (int(d) - int(b)) for a, b, c, d in blocks]
    cells = [area for area in areas if area > 500]  # not of the colour bar
    across = 440 - 74 - (24 + 5.9 * 2)
    assert sum(cells) == pytest.approx(across * (300 - 40 - 6) * 5 / 6, rel=0.02)
    written = [e.text for e in drawn(HEAT).iter() if e.text in ("0.50", "1.00", "0.25", "0.75")]
    assert len(written) == 4


def test_gaps_break_a_line_and_logs_leave_out_what_has_none():
    kd, other = (e for e in drawn(LINES).iter() if e.get("stroke") and "h18" in e.get("d", ""))
    assert kd.get("d", "").count("M") == 3, "two parts and the key"
    assert other.get("d", "").count("M") == 2
    series = Series(name="kd", x=(0, 1, 2), y=(0.0, 1, 2), low=(0, 0, 1), high=(1, 2, 3))
    drawn(Lines(title="t", x_label="", y_label="", log_y=True, series=(series,)))


def test_diamonds_stand_at_the_effects():
    rows = [e for e in drawn(FOREST).iter() if (e.get("fill") or "").startswith("var")]
    assert [row.get("fill") for row in rows] == ["var(--supported)", "var(--plain)"]
    bar = re.match(r"M([\d.]+) [\d.]+H([\d.]+)M([\d.]+) ", rows[0].get("d", ""))
    assert bar
    low, high, middle = map(float, bar.groups())
    assert middle == pytest.approx((low + high) / 2, abs=0.1), "1.5 [0.5, 2.5]"
    zero = next(e for e in drawn(FOREST).iter() if e.get("class") == "z")
    assert float(zero.get("d", "")[1:].split()[0]) == pytest.approx(low - (high - low) / 4, abs=0.2)


def test_names_stand_where_they_are_meant():
    series = Series(name="kd", x=(2, 3), y=(1.0, 2.0))
    names = ("stem", "deep", "logits")
    found = drawn(Lines(title="t", x_label="", y_label="", series=(series,), x_names=names))
    places = {e.text: e.get("x") for e in found.iter() if e.text in names}
    (dots,) = (e.get("d", "") for e in found.iter() if e.get("class") == "d")
    assert re.findall(r"M([\d.]+)", dots) == [places["deep"], places["logits"]]
    assert "stem" not in places, "no line comes so far"
