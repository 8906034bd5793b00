"""The page as a browser sees it: every section there, every plot drawn, nothing asked of a network.

Whatever the browser writes to its console fails the test.
"""

import pytest
from browsing import blanks, shown
from hostile import hostile
from specimen import specimen

from kdprobe.report import write_report
from kdprobe.report.document import chapters

SHEET = {"width": 718, "height": 1047}  # pixels of A4 within its margins
REACHABLE = """
(() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
  .filter((one) => !one.disabled && one.tabIndex >= 0)
  .filter((one) => one.checkVisibility({ visibilityProperty: true })))
"""
FOCUSED = """
() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const style = getComputedStyle(one);
  const by = document.getElementById(one.getAttribute("aria-labelledby"));
  const names = [one.getAttribute("aria-label"), by?.textContent, one.textContent,
    ...[...one.labels ?? []].map((label) => label.textContent)];
  return {
    name: names.filter(Boolean).join(" ").trim(),
    outlined: style.outlineStyle !== "none" || style.boxShadow !== "none",
    what: one.outerHTML.slice(0, 120),
  };
}
"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        *(
            pytest.param(width, scheme, marks=pytest.mark.slow)
            for width, scheme in ((360, "light"), (1280, "dark"), (360, "dark"))
        ),
    ],
)
def test_every_section_stands_and_every_plot_is_drawn(browser, tmp_path, width, scheme):
    (file,) = write_report(specimen(), tmp_path, pdf=False)
    size = {"width": width, "height": 900}
    with shown(browser, file, viewport=size, color_scheme=scheme) as page:
        ids = page.locator("[id]").evaluate_all("all => all.map((one) => one.id)")
        assert {chapter.key for chapter in chapters(specimen())} <= set(ids)
        assert page.locator(".plot").count() == 31
        assert page.locator(".plot[data-drawn=true]:has(svg.main-svg)").count() == 31
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert blanks(page, ".plot") == []


@pytest.mark.slow
def test_on_paper_every_plot_is_drawn_within_the_sheet(browser, tmp_path):
    (file,) = write_report(specimen(), tmp_path, pdf=False)
    with shown(browser, file, viewport={"width": 1280, "height": 900}, color_scheme="dark") as page:
        page.set_viewport_size(SHEET)
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.wait_for_timeout(3000)
        assert page.locator("details:not([open])").count() == 0
        right = "all => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
        assert page.locator(".plot .main-svg").evaluate_all(right) <= SHEET["width"]
        assert blanks(page, ".plot") == []


@pytest.mark.slow
def test_everything_is_reached_by_tab_and_seen_there(browser, tmp_path):
    """Not what plotly draws: its numbers stand in the buttons and tables beside it."""
    (file,) = write_report(specimen(), tmp_path, pdf=False)
    with shown(browser, file, viewport={"width": 1280, "height": 900}) as page:
        wanted = page.evaluate(f"{REACHABLE}().length")
        met = 0
        for _ in range(2 * wanted):
            page.keyboard.press("Tab")
            told = page.evaluate(FOCUSED)
            if told is None:
                break
            met += 1
            assert told["name"], told
            assert told["outlined"], told
        assert met >= wanted > 50


@pytest.mark.slow
def test_dark_page_with_hostile_names_draws_too(browser, tmp_path):
    (file,) = write_report(hostile(), tmp_path, pdf=False)
    with shown(browser, file, color_scheme="dark") as page:
        assert page.locator(".plot").count() > 0
        assert page.locator(".plot:not([data-drawn=true])").count() == 0
