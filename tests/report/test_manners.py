"""The page behaves: on a phone, by keyboard, on paper, in a frame, by day, by night, unscripted."""

import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from browsing import READY, faults, shown
from hostile import hostile
from pypdf import PdfReader
from specimen import specimen

from kdprobe.report.document import chapters
from kdprobe.report.headline import headline
from kdprobe.report.html import page

SCREEN = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
FRAME = '<iframe sandbox="allow-scripts" src="report.html" width="1200" height="800"></iframe>'
BOXES = """
(names) => names.map((name) => [...document.querySelectorAll(name)].map((one) => {
  const { top, bottom, left, right } = one.getBoundingClientRect();
  return { top, bottom, left, right };
}))
"""
UNDRAWN = """
() => [...document.querySelectorAll(".plot, main img")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.height || box.bottom < 0 || box.top > innerHeight) return false;
  if (one.tagName === "IMG") return !(one.complete && one.naturalWidth);
  const drawing = one.querySelector(".main-svg");
  return !(one.dataset.drawn && drawing && drawing.getBoundingClientRect().width > 50);
}).map((one) => one.id || one.alt)
"""
STORAGE = "() => { try { return String(localStorage) } catch (error) { return error.name } }"


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The specimen's page, and beside it a page that frames it."""
    folder = tmp_path_factory.mktemp("manners")
    report = folder / "report.html"
    report.write_text(page(specimen()), encoding="utf-8")
    (folder / "frame.html").write_text(FRAME, encoding="utf-8")
    (folder / "hostile.html").write_text(page(hostile()), encoding="utf-8")
    return report


def test_first_screen_and_keyboard(browser, file):
    with shown(browser, file, until="#theme", viewport=SCREEN, color_scheme="dark") as page:
        first_screen(page)
        by_keyboard(page)


@pytest.mark.slow
def test_scrolling_and_paper(browser, file):
    with shown(browser, file, viewport=SCREEN, color_scheme="dark") as page:
        scrolled(page)
        on_paper(page)


def first_screen(page: Any) -> None:
    """Networks, hypotheses, findings and what was not judged stand there without scrolling."""
    names = ["#summary .networks tr", "#summary .claim h2", "#attention", "#unjudged"]
    boxes = page.evaluate(BOXES, names)
    top = headline(specimen())
    assert [len(found) for found in boxes] == [1 + len(top.arms), len(top.claims), 1, 1]
    assert all(box["bottom"] <= SCREEN["height"] for found in boxes for box in found)


def by_keyboard(page: Any) -> None:
    """The first key leads past the contents; the switch and a finding answer to Enter."""
    focus = "document.activeElement.textContent.trim()"
    page.keyboard.press("Tab")
    assert page.evaluate(focus) == "Skip to the report"
    page.keyboard.press("Tab")
    assert page.evaluate(focus) == "Light"
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    page.keyboard.press("Enter")
    assert page.evaluate(focus) == "Light", "and back"
    page.focus("#summary .findings li a")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == f"#{headline(specimen()).first[0].anchor}"


def scrolled(page: Any) -> None:
    """No figure and no picture is blank, wherever one looks."""
    height = page.evaluate("document.documentElement.scrollHeight")
    seen = range(0, height, SCREEN["height"] // 2)
    assert len(seen) > 15
    for place in seen:
        page.evaluate("(top) => scrollTo({ top, behavior: 'instant' })", place)
        page.evaluate("() => new Promise((next) => requestAnimationFrame(next))")
        if page.evaluate(UNDRAWN):
            page.wait_for_timeout(300)
        assert page.evaluate(UNDRAWN) == [], f"at {place}"


def on_paper(page: Any) -> None:
    """Paper is white and holds everything that is folded; the screen is as before."""
    shut = page.locator("details:not([open])").count()
    text = "".join(
        sheet.extract_text()
        for sheet in PdfReader(io.BytesIO(page.pdf(print_background=True))).pages
    )
    plain = "".join(unicodedata.normalize("NFKC", text).split())  # ligatures to letters
    for chapter in chapters(specimen()):
        assert chapter.key == "summary" or "".join(chapter.title.split()) in plain
        for panel in chapter.panels:
            assert "".join(panel.title.split()) in plain
    assert page.locator("details:not([open])").count() == shut
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"


@pytest.mark.slow
def test_inside_a_sandboxed_frame(browser, file):
    """As MLflow shows artefacts: the page has no origin, so no storage, and does without."""
    with shown(browser, file.parent / "frame.html", until="iframe", viewport=SCREEN) as page:
        frame = page.frame_locator("iframe")
        frame.locator(READY).wait_for(state="attached")
        inside = page.frames[1]
        assert inside.evaluate(STORAGE) == "SecurityError"
        assert inside.evaluate("origin") == "null"
        assert frame.locator(".plot:not([data-drawn])").count() == 0
        frame.locator("#theme").click()
        assert inside.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.slow
def test_nothing_is_wider_than_a_phone(browser, file):
    """Neither with plain names nor with such as try to break out."""
    wide = "() => document.documentElement.scrollWidth"
    for name in ("report.html", "hostile.html"):
        with shown(browser, file.parent / name, until="footer", viewport=PHONE) as page:
            assert page.evaluate(wide) == PHONE["width"]


def test_without_scripts_all_but_the_figures_is_there(browser, file):
    with shown(browser, file, until="footer", viewport=SCREEN, java_script_enabled=False) as page:
        assert page.locator("noscript").first.inner_text().startswith("Without JavaScript")
        assert page.locator("#summary .claim").count() == len(headline(specimen()).claims)
        assert page.locator("#theme").is_hidden()
        page.locator("#verdicts details summary").first.click()
        assert page.locator("#verdicts details table").first.is_visible()


@pytest.mark.slow
def test_axe_finds_no_fault(browser, file):
    with shown(browser, file, viewport=SCREEN, reduced_motion="reduce") as page:
        assert faults(page) == []
    with shown(browser, file, viewport=SCREEN, color_scheme="dark") as page:
        assert faults(page) == []
    with shown(browser, file, viewport=PHONE) as page:
        assert faults(page) == []
