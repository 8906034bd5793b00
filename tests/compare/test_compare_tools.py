"""The page of a comparison in use: another baseline changes all that depends on it; long tables."""

from collections.abc import Iterator
from typing import Any

import pytest
from browsing import shown
from comparable import results

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.record import Comparison
from kdprobe.report.comparison import write_comparison
from kdprobe.report.comparison_bases import none_decided, what_changed
from kdprobe.report.comparison_effects import axes, marks
from kdprobe.report.comparison_order import gap_text

LAYERS = tuple(f"stage{place}" for place in range(9))


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Many places, verdicts and gaps, so that tables are long; `few` decides nothing."""
    bare = results("bare", layers=LAYERS, without=("concepts", "stability", "cka"))
    return compare(
        [
            results("a", layers=LAYERS),
            results("few", seeds=2, layers=(*LAYERS, "logits")),
            results("b", layers=LAYERS, gains={"kd": -0.3}, chance=1, without=("concepts",)),
            bare,
        ]
    )


@pytest.fixture(scope="module")
def opened(browser: Any, comparison: Comparison, tmp_path_factory: Any) -> Iterator[Any]:
    file = write_comparison(comparison, tmp_path_factory.mktemp("tools"))[0]
    with shown(browser, file, until="footer", viewport={"width": 1400, "height": 900}) as page:
        yield page


@pytest.fixture
def page(opened: Any) -> Any:
    opened.click("#reset")
    return opened


@pytest.mark.parametrize("base", [1, 2, 0])
def test_reasons_and_changed_rows_are_those_of_the_chosen_baseline(page, comparison, base):
    page.select_option("#base", str(base))
    turned = comparison.against(comparison.sides[base].name)
    assert page.text_content("#none") == none_decided(turned)
    assert page.is_visible("#none") == (base == 1)
    assert page.text_content("#changed") == what_changed(turned)
    marked = page.eval_on_selector_all(
        "tr.changed", "rows => rows.map((row) => Number(row.dataset.verdict))"
    )
    changed = [place for place, entry in enumerate(turned.verdicts) if entry.changed]
    assert sorted(marked) == changed
    others = [side.name for side in turned.others]
    told = f"{others[0]}, {others[1]} and {others[2]}"
    assert page.title() == f"{told} against {turned.baseline} · kdprobe comparison"
    assert f"minus {turned.baseline}," in page.text_content("#effects .question")


def drawn(page: Any) -> dict[str, list[Any]]:
    """Of every visible effect: places of its marks, what is said of it and its outcome."""
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("figure.effects li:not(.none)")]
            .map((line) => {
                const at = (what, side) => parseFloat(line.querySelector(what).style[side]);
                return [`${line.dataset.row}/${line.dataset.side}`, [
                    at(".zero", "left"), at(".span", "left"), at(".span", "width"),
                    at(".mid", "left"), line.querySelector(":scope > .hidden").textContent,
                    line.querySelector(".sign .hidden").textContent]];
            }))"""
    )


@pytest.mark.parametrize("base", [1, 2, 0])
def test_figures_are_drawn_again_as_python_draws_them(page, comparison, base):
    page.select_option("#base", str(base))
    turned = comparison.against(comparison.sides[base].name)
    found, scales = drawn(page), axes(turned)
    places = {(row.quantity, str(row.at)): place for place, row in enumerate(comparison.rows)}
    sides = {side.name: place for place, side in enumerate(comparison.sides)}
    wanted = marks(turned)
    assert len(found) == len(wanted) > 20
    for d, mark in wanted:
        zero, low, width, middle, text, outcome = found[
            f"{places[d.quantity, str(d.at)]}/{sides[d.side]}"
        ]
        assert (zero, middle) == (scales[d.quantity].zero, mark.effect)
        assert (text, outcome) == (gap_text(d), d.outcome)
        if mark.low is not None:
            assert (low, width) == (mark.low, pytest.approx(mark.high - mark.low, abs=0.01))
        else:
            assert low is None or low != low


def test_names_and_hidden_sides_reach_the_figures_the_title_and_the_head(page):
    page.locator("[data-tool='2'] input[type=text]").fill("mine")
    assert "mine" in page.title()
    assert page.inner_text(".study") == "a, few, mine, bare"
    assert "mine" in page.inner_text("figure.effects[data-quantity=accuracy]")
    page.uncheck("[data-tool='2'] input[type=checkbox]")
    line = page.locator("figure.effects[data-quantity=accuracy] li[data-side='2']").first
    assert not line.is_visible()
    page.click("[data-tool='1'] button")
    assert page.locator("figure.effects li.bright[data-side='1']").count()


def test_a_long_table_is_closed_and_opens_for_what_is_looked_for(page):
    fold = page.locator("#q-rho .fold").first
    assert not page.is_visible("#q-rho table")
    assert "30 places" in page.inner_text("#q-rho summary")
    page.fill("#find", "stage4")
    assert page.is_visible("#q-rho table")
    page.fill("#find", "")
    assert not page.is_visible("#q-rho table")
    page.click("#q-rho summary")
    page.fill("#find", "stage4")
    page.fill("#find", "")
    assert fold.get_attribute("open") is not None, "opened by hand"
    page.click("#q-rho summary")
    page.click("figure.effects[data-quantity=rho] h3 a")
    assert page.is_visible("#q-rho table")


def test_the_tally_of_a_long_table_follows_the_baseline(page, comparison):
    page.select_option("#base", "1")
    gaps = [d for d in comparison.against("few").differences if d.quantity == "rho"]
    assert page.inner_text("#q-rho summary .tally").endswith(f"{len(gaps)} undecided")


@pytest.mark.parametrize("section", ["#verdicts", "#missing"])
def test_rows_of_long_tables_are_found_by_their_words(page, section):
    table = page.locator(f"{section} table.data")
    assert not table.is_visible()
    page.click(f"{section} summary")
    rows = table.locator("tbody tr")
    count = rows.count()
    assert count > 14
    word = {"#verdicts": "feature stage4", "#missing": "rho bare"}[section]
    page.fill(f"{section} input[type=search]", word)
    found = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(found) < count
    assert f"{len(found)} of {count} rows" in page.inner_text(f"{section} .table-bar")
    page.fill(f"{section} input[type=search]", "")
    page.click(f"{section} summary")


def test_a_renamed_side_is_renamed_in_the_sortable_head_of_the_verdicts(page):
    page.click("#verdicts summary")
    page.locator("[data-tool='1'] input[type=text]").fill("mine")
    heads = page.locator("#verdicts thead th")
    assert heads.all_inner_texts()[2:] == ["a", "mine", "b", "bare"]
    page.click("#verdicts thead th:nth-child(2) button")
    assert heads.nth(1).get_attribute("aria-sort") == "ascending"
    page.select_option("#base", "1")
    marked = page.locator("#verdicts tr.changed td:nth-child(2)").all_inner_texts()
    assert marked == sorted(marked)
    page.click("#verdicts summary")
