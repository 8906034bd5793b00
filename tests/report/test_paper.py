"""The PDF is the same at every rendering, reads back, and no name is ever run."""

import io
import re

import pytest
from hostile import NAMES, hostile
from pypdf import PdfReader
from specimen import specimen

from kdprobe.panels import Gallery, Overlays, Table, Text
from kdprobe.report.colours import Colours
from kdprobe.report.document import chapters
from kdprobe.report.pdf import pdf
from kdprobe.report.still import drawing
from kdprobe.results import Results, StudySummary


def words(content: bytes) -> str:
    """The text of a PDF without spaces and line breaks."""
    pages = PdfReader(io.BytesIO(content)).pages
    return re.sub(r"[\s\u200b]+", "", "".join(page.extract_text() for page in pages))


@pytest.fixture(scope="module")
def content() -> bytes:
    return pdf(specimen())


def test_two_renderings_are_equal(content):
    assert pdf(specimen()) == content


def test_every_chapter_and_figure_is_there(content):
    text = words(content)
    panels = [panel for chapter in chapters(specimen()) for panel in chapter.panels]
    drawn = [panel for panel in panels if not isinstance(panel, Text | Table | Gallery | Overlays)]
    for chapter in chapters(specimen())[1:]:
        assert chapter.title.replace(" ", "") in text
    for number, panel in enumerate(drawn, start=1):
        assert f"Figure{number}:{panel.title}".replace(" ", "") in text


def test_a_direction_is_told_only_of_metrics_that_have_one(content):
    told = [chapter.better for chapter in chapters(specimen()) if chapter.better]
    assert len(told) >= 2
    assert words(content).count("isbetter.") == len(told)


def test_headline_numbers_stand_in_the_pdf(content):
    text = words(content)
    for number in ("92.3%", "86.2%", "+4.5points", "8supported", "+4.0[+2.0,+6.0]"):
        assert number in text


def test_hostile_names_stay_text():
    text = words(pdf(hostile()))
    for name in NAMES.values():
        assert name.replace(" ", "") in text


def test_pdf_of_almost_nothing():
    study = StudySummary(name="", dataset="none", classes=(), runs=())
    empty = Results(kdprobe_version="0", study=study, metrics=())
    assert "Thestudyholdsnostudent" in words(pdf(empty))


def test_stills_are_the_same_each_time_and_text_is_no_figure():
    colours = Colours(specimen())
    for chapter in chapters(specimen()):
        for panel in chapter.panels:
            first = drawing(panel, colours)
            if isinstance(panel, Text | Table | Gallery | Overlays):
                assert first is None
            else:
                assert first == drawing(panel, colours)
                break
