"""The gallery as a browser draws it: every number as Python reckons it, everything by keyboard."""

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import shown
from hostile import NAMES
from specimen import specimen
from specimen_gallery import B, viewer
from specimen_label import EPOCHS, LAYERS

from kdprobe.metrics.viewer import STEP
from kdprobe.panels import Viewer
from kdprobe.report import write_report
from kdprobe.report.pictures import heat_colour
from kdprobe.report.viewer import IN_CONTACT, spans

expect = pytest.importorskip("playwright.sync_api").expect
IMAGES = 12
READING = ("Canvas2D: Multiple readback",)  # it is these tests that read
DRAWN = ".viewer[data-ready]"
SCREEN = {"width": 1280, "height": 900}
FRAME = "requestAnimationFrame(() => requestAnimationFrame(done))"
PANEL = viewer(IMAGES)
FIRST = {"teacher": 0, "baseline-seed0": 1, "kd-seed0": 9, "feature-seed0": 17}


def written(panel: Viewer, folder: Path) -> Path:
    """A page that holds the gallery and no plot, as those take long to load."""
    found = specimen()
    (one,) = (metric for metric in found.metrics if metric.key == "concepts")
    metrics = (one.model_copy(update={"panels": (panel,)}),)
    (file,) = write_report(
        found.model_copy(update={"metrics": metrics, "verdicts": ()}), folder, pdf=False
    )
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(PANEL, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path) -> Iterator[Any]:
    with shown(browser, file, until=DRAWN, noise=READING, viewport=SCREEN) as page:
        yield page


@pytest.fixture
def page(opened: Any) -> Any:
    """The page as it is when it has just been opened."""
    opened.locator("[type=reset]").click()
    opened.wait_for_timeout(30)
    return opened


def put(page: Any, name: str, value: object) -> None:
    """Give a control a value, as a hand would."""
    page.locator(f".controls [name={name}]").evaluate(
        "(it, value) => { it.value = value;"
        " it.dispatchEvent(new Event('input', {bubbles: true})); }",
        str(value),
    )


def drawn(page: Any) -> list[str]:
    """What the tiles of networks say they are, once all are drawn."""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page.locator(".live .picture:not([hidden]) .tile:not([hidden]) canvas").evaluate_all(
        "all => all.map(it => it.getAttribute('aria-label')).filter(it => it.startsWith('What'))"
    )


def order(page: Any) -> list[int]:
    """The images that are shown, in their order."""
    names = page.locator(".live .picture:not([hidden]) .open").all_text_contents()
    return [int(name.removeprefix("test-")) for name in names]


def concepts(layer: int, epoch: int, network: str, b: float = B) -> tuple[np.ndarray, int]:
    """(n, q) bool, and the epoch that is shown of it."""
    (own,) = (one.epochs for one in PANEL.networks if one.name == network)
    at = max((place for place, there in enumerate(own) if there <= epoch), default=0)
    return PANEL.kept.unpack()[layer, FIRST[network] + at] > b, own[at]


ON = PANEL.sides.unpack() > 192


@pytest.mark.parametrize(
    ("layer", "epoch", "steps"), [(2, 12, 0), (0, 0, 0), (1, 3, 7), (1, 7, -5)]
)
def test_every_tile_counts_as_python_does(page, layer, epoch, steps):
    put(page, "layer", layer)
    put(page, "epoch", max(place for place, own in enumerate(EPOCHS) if own <= epoch))
    put(page, "threshold", steps)
    shown = max(own for own in EPOCHS if own <= epoch)
    wanted = []
    for i in range(IMAGES):
        for network in FIRST:
            found, own = concepts(layer, shown, network, B + steps * STEP)
            wanted.append(
                f"What {network} keeps of test-{i:04d} at {LAYERS[layer]}, epoch {own}: "
                f"{found[i].sum()} of 256 cells are concepts, "
                f"{(found & ON)[i].sum()} on the object."
            )
    assert drawn(page) == wanted


def test_an_epoch_that_a_network_lacks_is_said(page):
    slider = page.locator(".controls [name=epoch]")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("[name=at]").text_content() == "0"
    assert slider.get_attribute("aria-valuetext") == "epoch 0"
    expect(page.locator(".told")).to_have_text(
        "12 of 12 images at logits, epoch 0 (teacher at epoch 24, feature-seed0 at epoch 1); "
        "concepts are kept by more than 0.35 nats."
    )
    labels = page.locator(".live canvas").evaluate_all("all => all.map(it => it.ariaLabel)")
    assert len(labels) == 5 * IMAGES
    assert sum("epoch 0:" in label for label in labels) == 2 * IMAGES, "those not near, too"
    page.keyboard.press("ArrowRight")
    assert page.locator("[name=at]").text_content() == str(EPOCHS[1])


def pixel(page: Any, tile: int, x: float, y: float) -> list[int]:
    """The colour of a tile of the first image at a place in [0, 1]."""
    page.evaluate(f"new Promise(done => {FRAME})")
    return (
        page.locator(".live canvas")
        .nth(tile)
        .evaluate(
            "(it, [x, y]) => [...it.getContext('2d').getImageData(Math.floor(x * it.width),"
            " Math.floor(y * it.height), 1, 1).data].slice(0, 3)",
            [x, y],
        )
    )


def test_layers_of_a_tile_are_blended(page):
    put(page, "size", 260)
    for name in ("object", "concepts"):
        page.locator(f".controls [name={name}]").uncheck()
    place = [(5 + 0.25) / 16, (9 + 0.25) / 16]  # the middle of a pixel of the picture
    (low, high) = spans(PANEL)[2]
    kept = PANEL.kept.unpack()[2, FIRST["kd-seed0"] + 7, 0].reshape(16, 16)[9, 5]
    put(page, "blend", 100)
    near = np.abs(np.array(pixel(page, 3, *place)) - heat_colour((kept - low) / (high - low)))
    assert near.max() <= 2
    put(page, "blend", 0)
    x, y = (int(32 * share) for share in place)
    wanted = PANEL.pixels.unpack()[0, y, x]
    assert np.abs(np.array(pixel(page, 3, *place)) - wanted).max() <= 1
    assert np.abs(np.array(pixel(page, 0, *place)) - wanted).max() <= 1


INKED = """(it, ink) => {
  const all = it.getContext('2d').getImageData(0, 0, it.width, it.height).data;
  let count = 0;
  for (let at = 0; at < all.length; at += 4) {
    count += ink.every((tone, place) => all[at + place] === tone);
  }
  return count;
}"""


def test_outlines_come_and_go(page):
    put(page, "size", 260)
    tile = page.locator(".live canvas").nth(3)
    for name, ink in (("object", [64, 224, 255]), ("concepts", [255, 255, 255])):
        box = page.locator(f".controls [name={name}]")
        page.evaluate(f"new Promise(done => {FRAME})")
        assert tile.evaluate(INKED, ink) > 100
        box.focus()
        page.keyboard.press("Space")
        page.evaluate(f"new Promise(done => {FRAME})")
        assert tile.evaluate(INKED, ink) == 0


def changes() -> np.ndarray:
    """(n,) concepts on the object, students less the baseline, at the end and the last layer."""
    found = {name: (concepts(2, 12, name)[0] & ON).sum(1) for name in FIRST}
    return (found["kd-seed0"] + found["feature-seed0"]) / 2 - found["baseline-seed0"]


def disagreement() -> np.ndarray:
    """(n,) mean absolute difference of the marks of two networks."""
    marks = [concepts(2, 12, name)[0].astype(float) for name in FIRST]
    return np.mean([np.abs(one - two).mean(1) for one, two in combinations(marks, 2)], axis=0)


@pytest.mark.parametrize(
    ("kind", "measure"),
    [("gained", lambda: -changes()), ("lost", changes), ("differ", lambda: -disagreement())],
)
def test_images_are_sorted_by_what_they_show(page, kind, measure: Callable[[], np.ndarray]):
    put(page, "sort", kind)
    assert order(page) == np.argsort(measure(), kind="stable").tolist()


def test_images_are_sorted_by_name_and_class_and_filtered(page):
    put(page, "sort", "class")
    assert order(page) == [0, 10, 1, 11, *range(2, 10)]
    put(page, "class", "1")
    assert order(page) == [1, 11]
    put(page, "find", "TEST-001")
    assert order(page) == [11]
    put(page, "find", "nothing")
    assert order(page) == []
    expect(page.locator(".told")).to_contain_text("No image is left")
    page.locator("[type=reset]").click()
    page.wait_for_timeout(30)
    assert order(page) == list(range(IMAGES))
    put(page, "show", "lost")
    assert order(page) == np.flatnonzero(changes() < 0).tolist()
    put(page, "show", "differ")
    assert order(page) == np.flatnonzero(disagreement() > 0.1).tolist()


def test_networks_are_chosen(page):
    page.locator(".controls [name=network]").nth(1).uncheck()
    assert len(drawn(page)) == 3 * IMAGES
    assert page.locator(".change").all_text_contents() == [""] * IMAGES, "there is no baseline"


def test_a_picture_opens_by_enter_and_arrows_lead_on(page):
    page.locator(".open").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    title, told = page.locator(".full h4"), page.locator(".full-told")
    assert title.text_content() == "test-0001, class 1"
    assert page.locator(".full .chosen .caption strong").text_content() == "kd-seed0"
    page.keyboard.press("ArrowRight")
    assert title.text_content() == "test-0002, class 2"
    page.keyboard.press("ArrowDown")
    assert "What feature-seed0 keeps of test-0002 at logits, epoch 12" in told.text_content()
    page.keyboard.press(",")
    assert "epoch 10." in told.text_content()
    assert page.locator(".controls [name=at]").text_content() == "10"
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert title.text_content() == "test-0011, class 1"
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.keyboard.press("Escape")
    assert not page.locator(".full").is_visible()
    expect(page.locator(".open").nth(11)).to_be_focused()


def test_a_cell_says_what_is_kept_of_it(page):
    page.locator(".live canvas").nth(3).click()
    box = page.locator(".full .chosen canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 5.5 / 16, box["y"] + box["height"] * 9.5 / 16)
    kept = PANEL.kept.unpack()[2, FIRST["kd-seed0"] + 7, 0, 9 * 16 + 5]
    side = "on" if ON[0, 9 * 16 + 5] else "off"
    told = page.locator(".full .cell").text_content()
    found = re.fullmatch(rf"Row 10, column 6, {side} the object: (\S+) nats kept .*", told)
    assert found is not None
    assert float(found[1]) == pytest.approx(kept, abs=0.0051)
    page.keyboard.press("Escape")


def test_it_plays_and_with_less_motion_it_steps(page):
    put(page, "epoch", 5)
    play = page.locator("[name=play]")
    play.click()
    expect(play).to_have_text("Stop")
    expect(play).to_have_text("Play")
    assert page.locator("[name=at]").text_content() == "12"
    page.emulate_media(reduced_motion="reduce")
    expect(play).to_have_text("Next")
    put(page, "epoch", 2)
    play.click()
    assert page.locator("[name=at]").text_content() == str(EPOCHS[3])
    page.emulate_media(reduced_motion="no-preference")


def test_on_paper_stands_what_is_shown(page):
    put(page, "layer", 0)
    page.emulate_media(media="print")
    assert len(drawn(page)) == 4 * IMAGES
    assert all("stage2" in told for told in drawn(page))
    assert not page.locator(".controls").is_visible()
    blank = page.locator(".live canvas").evaluate_all(
        "all => all.filter(it => !it.width || new Set(it.getContext('2d')"
        ".getImageData(0, 0, it.width, it.height).data).size < 9).length"
    )
    assert blank == 0
    page.emulate_media(media="screen")


BLANK = """
() => [...document.querySelectorAll(".live canvas")].filter((one) => {
  const box = one.getBoundingClientRect();
  if (!box.height || box.bottom < 0 || box.top > innerHeight) return false;
  return !one.getContext("2d").getImageData(one.width / 2, one.height / 2, 1, 1).data[3];
}).length
"""


def test_sixty_images_scroll_by_without_a_blank(browser, tmp_path):
    file = written(viewer(60), tmp_path)
    with shown(browser, file, until=DRAWN, noise=READING, viewport=SCREEN) as page:
        height = page.evaluate("document.documentElement.scrollHeight")
        assert page.locator(".live canvas").count() == 60 * 5
        assert height > 5 * 900
        for place in range(0, height, 450):
            page.evaluate("(top) => scrollTo({ top, behavior: 'instant' })", place)
            page.evaluate(f"new Promise(done => {FRAME})")
            assert page.evaluate(BLANK) == 0, f"at {place}"


def test_it_fits_a_phone(page):
    page.set_viewport_size({"width": 360, "height": 700})
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.locator(".open").first.click()
    within = page.locator(".full").evaluate("it => it.scrollWidth <= it.clientWidth")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert wide <= 360
    assert within


def test_it_opens_in_a_sandboxed_frame(browser, file, tmp_path):
    frame = tmp_path / "frame.html"
    inside = f'src="{file.as_uri()}" width="900" height="900"'
    frame.write_text(f'<iframe sandbox="allow-scripts" {inside}>')
    with shown(browser, frame, until="iframe") as page:
        inner = page.frame_locator("iframe")
        inner.locator(DRAWN).wait_for(state="attached")
        assert inner.locator(".live canvas").count() == 5 * IMAGES


def test_without_scripts_some_pictures_stand_there(browser, file):
    with shown(browser, file, until="footer", java_script_enabled=False) as page:
        assert page.locator(".contact img").count() == IN_CONTACT * 5
        assert page.locator(".contact img").first.is_visible()
        for hidden in (".controls", ".live", ".full"):
            assert not page.locator(hidden).is_visible()


def test_names_stay_names(browser, tmp_path):
    bad = NAMES["feature-seed0"]
    panel = viewer(1)
    networks = tuple(one.model_copy(update={"name": bad}) for one in panel.networks)
    named = panel.model_copy(update={"networks": networks, "layers": (bad,) * 3})
    with shown(browser, written(named, tmp_path), until=DRAWN) as page:
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".live .tile strong").nth(1).text_content() == bad
