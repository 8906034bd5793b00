"""A Chromium for all the checks of a file, driven from Python; none where there is none."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
FEWEST_COLOURS = 20  # of a drawing, with the soft edges of its letters
READY = "html[data-ready=true]"
PATIENCE = 120_000  # milliseconds, of a machine that does much else


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none or nothing to drive it."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip(f"found none of {', '.join(BROWSERS)}")
    with driver.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def shown(
    browser: Any,
    file: Path,
    *,
    until: str = READY,
    before: str = "",
    noise: tuple[str, ...] = (),
    **wishes: Any,
) -> Iterator[Any]:
    """`file` in a window of its own without any network; what it complains of fails the test.

    Args:
        until: what has to stand in the page before it is given out.
        before: a script that runs before those of the page.
        noise: words of complaints that are the browser's own.
        wishes: what playwright's ``new_context`` takes.
    """
    context = browser.new_context(offline=True, **wishes)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    if before:
        page.add_init_script(before)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.goto(file.as_uri(), wait_until="commit")
    page.wait_for_selector(until, state="attached")
    yield page
    context.close()
    assert [one for one in complaints if not any(word in one for word in noise)] == []


def blanks(page: Any, places: str) -> list[str]:
    """The elements `places` that are not seen, or have nothing drawn in them, by their pixels."""
    found = page.locator(places)
    pictures = [
        Image.open(io.BytesIO(found.nth(i).screenshot())).convert("RGB")
        for i in range(found.count())
    ]
    return [
        str(found.nth(i).get_attribute("id"))
        for i, picture in enumerate(pictures)
        if len(picture.getcolors(1 << 24) or ()) < FEWEST_COLOURS
    ]


def faults(page: Any) -> list[tuple[str, str]]:
    """What axe-core objects to: rule and element. It does not look into plotly's drawings."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    found = axe.Axe().run(page, context={"exclude": [[".main-svg"]]})
    return [
        (fault["id"], node["html"][:120])
        for fault in found.response["violations"]
        for node in fault["nodes"]
    ]
