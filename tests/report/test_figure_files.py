"""In a browser: figures and tables are saved, found and sorted; surfaces are seen from the side."""

import csv
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browsing import READY, shown
from PIL import Image
from specimen_figures import GRID, GROUND, HEAT, LINES, TABLE, figures

from kdprobe.panels import Lines, Series
from kdprobe.report.html import page

SCREEN = {"width": 1000, "height": 800}
FRAME = '<iframe sandbox="allow-scripts allow-downloads" src="report.html" width=900></iframe>'
MOST_MOVING = 200  # figures of a page
BLIND = """
const given = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind.startsWith("webgl") ? null : given.call(this, kind, ...more);
};
"""
DRIVER = ("GL Driver Message", "Canvas2D: Multiple readback", "fallback to software WebGL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A page of one figure of each kind, and one that frames it."""
    found = tmp_path_factory.mktemp("figures")
    (found / "report.html").write_text(page(figures()), encoding="utf-8")
    (found / "frame.html").write_text(FRAME, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def opened(browser, folder):
    with shown(browser, folder / "report.html", noise=DRIVER, viewport=SCREEN) as found:
        yield found


def saved(place: Any, page: Any, name: str) -> tuple[str, bytes]:
    """The name and content of the file that the button called `name` gives."""
    with page.expect_download() as waiting:
        place.get_by_role("button", name=name, exact=True).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"))))


def test_a_figure_is_saved_as_a_picture(opened):
    name, content = saved(opened, opened, "Save as PNG: Cells")
    image = Image.open(io.BytesIO(content))
    assert (name, image.format, image.width) == ("Cells.png", "PNG", 1440)
    assert len(image.convert("RGB").getcolors(1 << 20)) > 20, "something is drawn"
    name, content = saved(opened, opened, "Save as SVG: Curves <b>")
    assert name == "Curves-b.svg"
    drawn = "".join(ElementTree.fromstring(content).itertext())
    assert all(word in drawn for word in ("epoch", "=loss", "kd", '=1+1,"'))
    assert b"var(--" not in content


def test_a_figure_is_saved_as_its_numbers(opened):
    name, content = saved(opened, opened, "Save as CSV: Curves <b>")
    found = rows(content)
    assert name == "Curves-b.csv"
    assert found[0] == ["line", "epoch", "'=loss", "low", "high"], "no spreadsheet runs it"
    assert found[2] == ["kd", "first", "", "1", "2"], "what stands there, not where"
    assert [row[:3] for row in found[4:]] == [
        ["'=1+1,\"", x, f"{y:.5g}"]
        for x, y in zip(("0", *LINES.x_names), LINES.series[1].y, strict=True)
    ]
    found = rows(saved(opened, opened, "Save as CSV: Cells")[1])
    assert found[0] == ["layer", "of the teacher", "value"]
    assert [row[2] for row in found[1:]] == ["0.5", "", "1", "0.25", "0", "0.75"]
    assert found[4][:2] == [f"'{HEAT.rows[1]}", "u"]
    found = rows(saved(opened, opened, "Save as CSV: Ground")[1])
    ground = [tuple(map(float, row[1:4])) for row in found if row[0] == "surface"]
    assert ground == [(x, y, 1 + 2 * x - y + x * y) for y in GRID for x in GRID]
    assert [row[4] for row in found if row[0] == "kd"] == ["1", "2", "3"]
    found = rows(saved(opened, opened, "Save as CSV: Effects")[1])
    assert found[1:] == [
        ["kd", "supported", "1.5", "0.5", "2.5"],
        ["feature", "", "-1", "", ""],
        ["none", "not applicable", "", "", ""],
    ]


def test_a_surface_is_seen_from_the_side_by_keyboard(opened):
    assert opened.locator("dialog.relief").count() == 0, "not made before it is asked for"
    opened.get_by_role("button", name=f"Show in 3-D: {GROUND.title}").press("Enter")
    scene = opened.locator(".relief-view")
    opened.wait_for_selector(".relief-view[data-drawn]")
    heights = scene.evaluate(
        "(box) => box.data.filter((one) => one.type === 'scatter3d')"
        ".map(({ x, y, z }) => x.map((a, i) => [a, y[i], z[i]]))"
    )
    lift = 0.012 * (max(map(max, GROUND.z)) - min(map(min, GROUND.z)))
    assert [len(one) for one in heights] == [17, 3]
    for x, y, z in heights[0] + heights[1]:
        assert z == pytest.approx(1 + 2 * x - y + x * y + lift), "the way lies on the ground"
    eye = "(box) => box._fullLayout.scene.camera.eye"
    before = scene.evaluate(eye)
    scene.press("ArrowLeft")
    opened.wait_for_function(
        f"(x) => ({eye})(document.querySelector('.relief-view')).x !== x", arg=before["x"]
    )
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog.relief").is_visible()
    assert opened.locator(".relief-view canvas").count() == 0, "the browser has its 3-D back"


def test_rows_are_found_sorted_and_saved(opened):
    region = opened.locator("#metric-figures .fold")
    region.locator("summary").click()
    opened.get_by_label("Find rows").fill("odd run1")
    assert region.get_by_role("status").inner_text() == "6 of 20 rows"
    head = region.get_by_role("columnheader", name="value")
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    name, content = saved(opened, opened, f"Save as CSV: {TABLE.title}")
    wanted = sorted(-i * 1000.5 for i in (1, 11, 13, 15, 17, 19))
    assert (name, [float(row[1]) for row in rows(content)[1:]]) == ("Long.csv", wanted)
    opened.get_by_label("Find rows").fill("")
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    found = rows(saved(opened, opened, f"Save as CSV: {TABLE.title}")[1])
    assert found[1] == ["run18", "18009", "'=even"]
    assert found[-1] == ["run3", "", "odd"], "what is not known comes last"
    assert {tuple(row[::2]) for row in found} > {("run5", "007"), ("run7", "1.10")}, "still names"


@pytest.mark.slow
def test_figures_past_the_limits_stand_still_and_are_saved_all_the_same(browser, tmp_path):
    x = tuple(i / 12_000 for i in range(12_000))
    large = Lines(title="Large", x_label="x", y_label="y", series=(Series(name="a", x=x, y=x),))
    small = [LINES.model_copy(update={"title": f"Small {i}"}) for i in range(MOST_MOVING + 1)]
    file = tmp_path / "report.html"
    file.write_text(page(figures(large, *small)), encoding="utf-8")
    with shown(browser, file, noise=DRIVER, viewport=SCREEN) as opened:
        still = opened.locator(".plot:has(> .sketch)")
        assert still.evaluate_all("all => all.map(plots.titleOf)") == ["Large", small[-1].title]
        notes = opened.locator("#metric-figures .still").all_inner_texts()
        assert len(notes) == 2
        assert all(limit in note for limit, note in zip(("20\u202f000", "200"), notes, strict=True))
        found = rows(saved(opened, opened, "Save as CSV: Large")[1])
        assert (len(found), found[-1][1]) == (12_001, "0.99992")
        for name in ("Large", small[-1].title):
            content = saved(opened, opened, f"Save as PNG: {name}")[1]
            image = Image.open(io.BytesIO(content)).convert("RGB")
            assert len(image.getcolors(1 << 20)) > 20, "something is drawn"


@pytest.mark.slow
def test_in_a_sandbox_files_are_saved_too(browser, folder):
    frame = folder / "frame.html"
    with shown(browser, frame, until="iframe", noise=DRIVER, viewport=SCREEN) as outer:
        inner = outer.frame_locator("iframe")
        inner.locator(READY).wait_for(state="attached")
        assert saved(inner, outer, "Save as CSV: Cells")[0] == "Cells.csv"
        assert saved(inner, outer, "Save as PNG: Cells")[1].startswith(b"\x89PNG")


@pytest.mark.slow
def test_without_3d_the_page_says_so(browser, folder):
    file = folder / "report.html"
    with shown(browser, file, before=BLIND, noise=DRIVER, viewport=SCREEN) as found:
        found.get_by_role("button", name="Show in 3-D: Ground").click()
        assert "no WebGL" in found.locator(".relief-view").inner_text()


def test_without_scripts_every_figure_is_a_picture(browser, folder):
    wishes = {"java_script_enabled": False, "viewport": {"width": 360, "height": 700}}
    with shown(browser, folder / "report.html", until="footer", **wishes) as found:
        sketches = found.locator(".plot > .sketch")
        assert sketches.count() == 4
        assert all(sketches.nth(i).is_visible() for i in range(4))
        assert found.locator(".files, .sort, .table-bar").count() == 0
        picture = Image.open(io.BytesIO(sketches.nth(1).screenshot())).convert("RGB")
        assert len(picture.getcolors(1 << 20)) > 10
