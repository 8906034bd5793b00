"""The page as a browser sees it: every section there, every plot drawn, nothing asked of a network.

Chromium runs headless without any network; what it writes to its console fails the test.
"""

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile import hostile
from specimen import specimen

from kdprobe.report import write_report
from kdprobe.report.document import chapters
from kdprobe.results import Results

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"found none of {', '.join(BROWSERS)}")


class Page(HTMLParser):
    """What stands in the page once its scripts have run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root: dict[str, str | None] = {}
        self.ids: set[str] = set()
        self.plots: list[dict[str, str | None]] = []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every element, with its attributes."""
        facts = dict(attrs)
        classes = (facts.get("class") or "").split()
        if tag == "html":
            self.root = facts
        if "id" in facts:
            self.ids.add(facts["id"] or "")
        if "plot" in classes:
            self.plots.append(facts)
        self.pictures += tag == "svg" and "main-svg" in classes


def opened(results: Results, folder: Path, *more: str) -> tuple[Page, list[str]]:
    """The page after its scripts, and the lines of its console."""
    (report,) = write_report(results, folder, pdf=False)
    command = [str(BROWSER), *FLAGS, *more, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, report.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return Page(done.stdout), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [1280, 500])
def test_every_section_stands_and_every_plot_is_drawn(tmp_path, width):
    page, console = opened(specimen(), tmp_path, f"--window-size={width},900")
    assert console == []
    assert {chapter.key for chapter in chapters(specimen())} <= page.ids
    assert len(page.plots) == 25
    assert all(plot.get("data-drawn") == "true" for plot in page.plots)
    assert page.pictures >= len(page.plots)
    assert page.root.get("data-ready") == "true"


def test_dark_page_with_hostile_names_draws_too(tmp_path):
    page, console = opened(hostile(), tmp_path, "--blink-settings=preferredColorScheme=0")
    assert console == []
    assert page.root.get("data-ready") == "true"
