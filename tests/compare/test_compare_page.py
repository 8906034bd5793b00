"""The page of a comparison: complete without scripts, and all its tools by hand and keyboard."""

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browsing import faults, shown
from comparable import results

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.gate import judge_rule
from kdprobe.comparing.record import Comparison
from kdprobe.report.comparison import comparison_page, write_comparison
from kdprobe.report.comparison_bases import MOST_GAPS, data
from kdprobe.report.comparison_chapters import comparison_chapters
from kdprobe.report.comparison_order import gap_text, strongest
from kdprobe.report.comparison_rows import tones

SCREEN = {"width": 1400, "height": 900}
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{7*7}}"
NAMES = ("last week", "today")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    second = results(NAMES[1], gains={"kd": -0.05, "feature": 0.1}, chance=1)
    return compare([results(NAMES[0]), second, results("third", chance=2)])


def texts(html: str) -> str:
    """All that a reader sees, in one line."""

    class Reader(HTMLParser):
        def __init__(self):
            super().__init__()
            self.found, self.skipped = [], 0

        def handle_starttag(self, tag, attrs):
            self.skipped += tag in ("script", "style")

        def handle_endtag(self, tag):
            self.skipped -= tag in ("script", "style")

        def handle_data(self, data):
            if not self.skipped:
                self.found.append(data)

    reader = Reader()
    reader.feed(html)
    return re.sub(r"\s+", " ", " ".join(reader.found))


def test_every_number_stands_in_the_page_without_scripts(comparison):
    shown = texts(comparison_page(comparison))
    for difference in comparison.differences:
        assert gap_text(difference) in shown
    for entry in comparison.quantities:
        assert entry.meaning in shown
    assert f"{len(strongest(comparison))} differences are decided" in shown


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(comparison):
    html = comparison_page(comparison)
    assert "default-src 'none'; script-src 'sha256-" in unescape(html)
    assert not re.search(r"(src|href)=\"(?!#)", html)
    assert not re.search(r"\son\w+=", html.split("<main")[1].split("<script")[0])
    assert "localStorage" not in html


def test_names_are_only_shown():
    first = results(HOSTILE, arms=("baseline", HOSTILE), layers=(HOSTILE, "logits"))
    found = compare([first, results(HOSTILE, chance=1)])
    html = comparison_page(found, (judge_rule(found, "rho < 0.1"),))
    assert "<img" not in html
    assert HOSTILE in texts(html)
    long = compare([results("n" * 10_000), results("m" * 10_000)])
    assert "m" * 10_000 in comparison_page(long)


def test_gates_are_told_with_their_places(comparison):
    gates = tuple(
        judge_rule(comparison, rule) for rule in ("rho < baseline - 0.05", "accuracy < 0.1")
    )
    shown = texts(comparison_page(comparison, gates))
    assert "Failed rho < baseline - 0.05" in shown
    assert "Passed accuracy < 0.1" in shown
    assert shown.count("the baseline is last week, as the command says") == 1
    assert shown.count("rho < baseline - 0.05") == 1, "not again on each of its lines"
    assert "today at arm kd" in shown


def test_chapters_hold_the_whole_comparison(comparison, tmp_path):
    chapters = comparison_chapters(comparison, (judge_rule(comparison, "rho < 0"),))
    panels = {panel.title: panel for chapter in chapters for panel in chapter.panels}
    assert len(panels["Every difference"].rows) == len(comparison.differences)
    assert len(panels["Ranks"].rows) == len(comparison.ranking)
    points = [p for row in comparison.rows for s in row.samples for p in s.points]
    assert len(panels["Numbers of every run"].rows) == len(points)
    written = {
        file.relative_to(tmp_path).as_posix() for file in write_comparison(comparison, tmp_path)
    }
    assert {
        "compare.html",
        "compare.json",
        "tables/differences.csv",
        "tables/ranking.csv",
    } <= written


def test_forty_runs_are_compared_with_the_chosen_baseline_alone():
    many = compare([results(seeds=13)], by="run")
    assert len(many.sides) == 40
    assert len(many.rows) * 40 * 39 > MOST_GAPS
    held = data(many)
    assert list(held["gaps"]) == [held["baseline"]]
    html = comparison_page(many)
    assert "choose with --baseline" in html
    assert len(html) < 1_000_000
    assert len(data(compare([results()]))["gaps"]) == 4


def test_sides_have_colours_of_their_own(comparison):
    assert len(set(tones(comparison.sides))) == 3
    assert tones(compare([results()]).sides) == [
        "teacher-0",
        "baseline-0",
        "student-0",
        "student-1",
    ]
    assert len(tones(compare([results(seeds=13)], by="run").sides)) == 40


@pytest.fixture(scope="module")
def opened(browser: Any, comparison: Comparison, tmp_path_factory: Any) -> Iterator[Any]:
    file = write_comparison(comparison, tmp_path_factory.mktemp("compared"))[0]
    with shown(browser, file, until="footer", viewport=SCREEN) as page:
        yield page


@pytest.fixture
def page(opened: Any) -> Any:
    opened.set_viewport_size(SCREEN)
    opened.click("#reset")
    return opened


@pytest.mark.parametrize("base", [1, 2, 0])
def test_another_baseline_shows_what_python_finds_against_it(page, comparison, base):
    page.select_option("#base", str(base))
    turned = comparison.against(comparison.sides[base].name)
    places = {(row.quantity, str(row.at)): place for place, row in enumerate(comparison.rows)}
    sides = {side.name: place for place, side in enumerate(comparison.sides)}
    shown = page.evaluate(
        """() => {
            const lines = [...document.querySelectorAll("tbody[data-row] tr[data-side]")];
            const of = (line, what) => line.querySelector(what).textContent;
            return Object.fromEntries(lines.map((line) => [
                `${line.closest("tbody").dataset.row}/${line.dataset.side}`,
                [of(line, ".effect"), of(line, ".word")]]));
        }"""
    )
    for d in turned.differences:
        effect, word = shown[f"{places[d.quantity, str(d.at)]}/{sides[d.side]}"]
        assert effect == gap_text(d)
        assert word.split()[-1] == d.outcome
    told = [line.split()[0] for line in page.locator("#told li").all_inner_texts()]
    assert told == [d.quantity for d in strongest(turned)][: len(told)]
    assert f"{len(strongest(turned))} difference" in page.inner_text("#lead")
    assert page.inner_text("h1").endswith(f"against {comparison.sides[base].name}")
    assert page.inner_text(f"[data-tally='{base}']") == "baseline"


def test_a_side_is_renamed_everywhere_and_back(page):
    name = page.locator("[data-tool='1'] input[type=text]")
    name.fill("<b>mine</b>")
    assert "<b>mine</b>" in page.inner_text("h1")
    assert set(page.locator("tbody [data-name='1']").all_text_contents()) == {"<b>mine</b>"}
    assert page.locator("#base option").nth(1).inner_text() == "<b>mine</b>"
    name.fill("")
    assert NAMES[1] in page.inner_text("h1")
    name.fill("x")
    page.click("#reset")
    assert NAMES[1] in page.inner_text("h1")


def test_a_side_is_hidden_and_highlighted_by_keyboard(page):
    page.focus("[data-tool='2'] input[type=checkbox]")
    page.keyboard.press("Space")
    assert not page.locator("tbody tr[data-side='2']").first.is_visible()
    assert page.locator("tbody tr[data-side='1']").first.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.get_attribute("[data-tool='2'] button", "aria-pressed") == "true"
    page.keyboard.press("Enter")
    page.focus("[data-tool='1'] button")
    page.keyboard.press("Enter")
    assert (
        page.locator("tbody tr.bright[data-side='1']").count()
        == page.locator("tbody tr[data-side='1']").count()
    )
    assert page.locator("tr.bright[data-side='0']").count() == 0


def test_places_are_found_by_word_and_by_what_is_decided(page, comparison):
    page.fill("#find", "rho")
    rows = [row for row in comparison.rows if row.quantity.startswith("rho")]
    assert f"{len(rows)} of {len(comparison.rows)}" in page.inner_text("#shown")
    assert not page.locator("#q-accuracy").is_visible()
    page.fill("#find", "")
    page.check("#decided")
    decided = {(d.quantity, str(d.at)) for d in strongest(comparison)}
    assert f"{len(decided)} of" in page.inner_text("#shown")
    page.fill("#find", "no such thing")
    assert "0 of" in page.inner_text("#shown")


@pytest.mark.parametrize("width", [360, 1000, 1400])
def test_nothing_is_wider_than_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_dashed_line_is_the_baselines_mean(page):
    page.select_option("#base", "1")
    ends = page.evaluate(
        """() => [...document.querySelectorAll("tbody[data-row]")].map((body) =>
            [body.querySelector("tr[data-side='1'] .mean")?.style.left,
             ...[...body.querySelectorAll("i.base")].map((mark) => mark.style.left)])"""
    )
    assert all(set(marks) == {mean} for mean, *marks in ends if marks)


@pytest.mark.slow
def test_axe_finds_no_fault(browser, tmp_path):
    few = [
        of.model_copy(update={"metrics": (of.metrics[0], of.metrics[2])})
        for of in (results(HOSTILE), results("b", gains={"kd": -0.2}, settings={"x": 1}))
    ]
    found = compare(few)
    gates = tuple(judge_rule(found, rule) for rule in ("rho < 0.9", "accuracy < 0"))
    with shown(browser, write_comparison(found, tmp_path, gates)[0], until="footer") as page:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert faults(page) == []


def test_the_printed_page_has_no_tools(page):
    page.emulate_media(media="print")
    assert not page.locator("#toolbox").is_visible()
    assert page.locator("#q-accuracy table").is_visible()
    page.emulate_media(media="screen")


def test_a_file_that_cannot_be_written_is_told(comparison, tmp_path: Path):
    from kdprobe.errors import OutputError

    (tmp_path / "tables").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_comparison(comparison, tmp_path)
