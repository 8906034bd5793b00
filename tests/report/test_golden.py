"""The document model: what the page, the paper and the notebook draw, as it was agreed."""

from pathlib import Path

from golden import must_be_as_before
from specimen import specimen

from kdprobe.report.document import chapters
from kdprobe.report.headline import headline

FOLDER = Path(__file__).parent / "golden"


def test_the_chapters_are_as_agreed():
    must_be_as_before(chapters(specimen()), FOLDER / "chapters.json")


def test_the_first_screen_is_as_agreed():
    must_be_as_before(headline(specimen()), FOLDER / "headline.json")
