"""The PDF is the same at every rendering, reads back, and no name is ever run."""

import io
import logging
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hostile import NAMES, hostile
from plain import metric_report
from pypdf import PdfReader
from pypdf.generic import DictionaryObject
from specimen import specimen

from kdprobe.cli import cli
from kdprobe.commands.ending import ended
from kdprobe.errors import PARTIAL, PaperError
from kdprobe.panels import (
    Effect,
    Forest,
    Heatmap,
    Lines,
    Overlays,
    Panel,
    Surface,
    Table,
    Text,
    Viewer,
)
from kdprobe.report import typesetting, write_report
from kdprobe.report.colours import Colours
from kdprobe.report.document import chapters, describe
from kdprobe.report.pdf import FIRST_ROWS, MOST_ROWS, pdf
from kdprobe.report.printed import ROWS, TALLEST, on_paper, printed
from kdprobe.report.typesetting import font_folder, typeset
from kdprobe.results import Results, StudySummary


def words(content: bytes) -> str:
    """The text of a PDF without spaces and line breaks."""
    pages = PdfReader(io.BytesIO(content)).pages
    return re.sub(r"[\s\u200b]+", "", "".join(page.extract_text() for page in pages))


@pytest.fixture(scope="module")
def content() -> bytes:
    return pdf(specimen())


@pytest.fixture(scope="module")
def text(content) -> str:
    return words(content)


@pytest.fixture(scope="module")
def root(content) -> DictionaryObject:
    return PdfReader(io.BytesIO(content)).root_object


def tagged(node: Any) -> Iterator[DictionaryObject]:
    """Every element of the structure below `node`, in reading order."""
    node = node.get_object()
    if isinstance(node, list):
        for kid in node:
            yield from tagged(kid)
    elif isinstance(node, DictionaryObject):
        if "/S" in node:
            yield node
        if "/K" in node:
            yield from tagged(node["/K"])


@pytest.fixture(scope="module")
def tags(root) -> list[DictionaryObject]:
    return list(tagged(root["/StructTreeRoot"]))


def test_two_renderings_are_equal(content):
    assert pdf(specimen()) == content


def test_it_says_what_it_is(content, root):
    reader = PdfReader(io.BytesIO(content))
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert reader.metadata.title == f"kdprobe report: {specimen().study.name}"
    assert b"<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_data()
    numbers = [page.extract_text().rsplit("\n", 1)[-1] for page in reader.pages]
    assert numbers[1].endswith(f"2 / {len(numbers)}")


def test_the_outline_names_every_chapter(content):
    found = [entry.title for entry in PdfReader(io.BytesIO(content)).outline if "/Title" in entry]
    assert found == ["Contents", *(chapter.title for chapter in chapters(specimen())[1:])]


def test_every_picture_has_words_and_every_table_a_head(tags):
    kinds = Counter(tag["/S"] for tag in tags)
    figures = [panel for panel in panels() if isinstance(panel, Lines | Heatmap | Surface | Forest)]
    told = [str(tag["/Alt"]) for tag in tags if tag["/S"] == "/Figure"]
    assert all(told)
    assert {describe(panel) for panel in figures} <= {one.replace("\u200b", "") for one in told}
    assert kinds["/Caption"] >= len(figures)
    assert kinds["/THead"] == kinds["/Table"] > 0
    assert kinds["/Title"] == kinds["/TOC"] == 1


def panels() -> list[Panel]:
    return [panel for chapter in chapters(specimen()) for panel in chapter.panels]


def test_every_chapter_and_figure_is_there(text):
    drawn = [panel for panel in panels() if not isinstance(panel, Text | Table | Viewer | Overlays)]
    for chapter in chapters(specimen())[1:]:
        assert chapter.title.replace(" ", "") in text
    for number, panel in enumerate(drawn, start=1):
        assert f"Figure{number}:{panel.title}".replace(" ", "") in text


def test_a_direction_is_told_only_of_metrics_that_have_one(text):
    told = [chapter.better for chapter in chapters(specimen()) if chapter.better]
    assert len(told) >= 2
    assert text.count("isbetter.") == len(told)


def test_headline_numbers_stand_in_the_pdf(text):
    for number in ("92.3%", "86.2%", "+4.5[+1.5,+7.5]points", "8supported", "+4.0[+2.0,+6.0]"):
        assert number in text


def test_findings_lead_to_the_page_of_their_evidence():
    plots = [
        Forest(
            title=title, effects=(Effect(name="kd", value=value, low=5.0, high=15.0),), x_label="p"
        )
        for title, value in (("Others", 9.0), ("Calibrated", 10.0))
    ]
    ece = {"ece": {"kd": {"effect": 0.1, "low": 0.05, "high": 0.15}}}
    known = metric_report("calibration", values={"effects": ece}, panels=tuple(plots))
    read = PdfReader(io.BytesIO(pdf(specimen().model_copy(update={"metrics": (known,)}))))
    links = [entry.get_object() for entry in read.pages[0]["/Annots"]]
    ((sheet, _, left, *_),) = [
        entry["/Dest"] for entry in links if isinstance(entry["/Dest"], list)
    ]
    evidence = read.get_page_number(sheet.get_object())
    assert "Calibrated" in read.pages[evidence].extract_text()
    assert left > 300, "the second of two that stand side by side"
    assert all(entry["/Contents"].strip() for entry in links), "said to those who cannot see"


def test_hostile_names_stay_text():
    text = words(pdf(hostile()))
    for name in NAMES.values():
        assert name.replace(" ", "") in text


def test_pdf_of_almost_nothing():
    study = StudySummary(name="", dataset="none", classes=(), runs=())
    empty = Results(kdprobe_version="0", study=study, metrics=())
    assert "Thestudyholdsnostudent" in words(pdf(empty))


def with_table(rows: int, name: str) -> Results:
    """Of one metric that shows one table."""
    table = Table(title="Rows", columns=("row",), rows=tuple((f"r{i}.",) for i in range(rows)))
    metric = metric_report("m", panels=(table.model_copy(update={"name": name}),))
    study = StudySummary(name="", dataset="none", classes=(), runs=())
    return Results(kdprobe_version="0", study=study, metrics=(metric,))


@pytest.mark.parametrize(
    ("rows", "name", "shown", "told"),
    [
        (MOST_ROWS, "m", MOST_ROWS, ""),
        (2000, "m", FIRST_ROWS, "Thefirst12of2000rows;tables/m.csvholdsallofthem."),
        (17, "", FIRST_ROWS, "Thefirst12of17rows;results.jsonholdsallofthem."),
    ],
)
def test_long_tables_are_shortened_and_say_so(rows, name, shown, told):
    text = words(pdf(with_table(rows, name)))
    assert len(re.findall(r"r\d+\.", text)) == shown
    assert told in text
    assert ("Thefirst" in text) == bool(told)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A folder whose page setter is the script that is given."""

    def setter(script: str) -> None:
        (tmp_path / "typesetter.py").write_text(script)
        monkeypatch.setattr(typesetting, "__file__", str(tmp_path / "typesetting.py"))

    return setter


def test_what_misses_the_standard_is_set_all_the_same(tmp_path, caplog):
    (tmp_path / "report.typ").write_text("= No title")
    with caplog.at_level(logging.INFO, "kdprobe"):
        made = PdfReader(io.BytesIO(typeset(tmp_path))).root_object
    assert "does not meet PDF/UA-1: PDF/UA-1 error: missing document title" in caplog.text
    assert "/StructTreeRoot" in made
    assert b"pdfuaid" not in made["/Metadata"].get_data()


def test_a_fault_of_typst_is_told_in_its_words(tmp_path):
    (tmp_path / "report.typ").write_text('#panic("no ink")')
    with pytest.raises(PaperError, match=r"could not be set: .*no ink.*--no-pdf"):
        typeset(tmp_path)


def test_a_crash_of_typst_takes_nothing_along(tmp_path, broken):
    broken("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(PaperError, match=f"stopped by signal {int(signal.SIGKILL)}"):
        write_report(with_table(1, ""), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]


def test_a_report_without_its_pdf_is_done_in_part(tmp_path, broken, capsys):
    broken("raise SystemExit('no ink')")
    (tmp_path / "results.json").write_text(with_table(1, "").to_json())
    assert ended(partial(cli, ["report", str(tmp_path)])) == PARTIAL
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(tmp_path / "report.html")]
    assert "error: the PDF could not be set: no ink" in shown.err


@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (1, 1), (ROWS, 1), (ROWS + 1, 2), (100, 3)])
def test_a_long_forest_goes_on_in_another(rows, parts):
    effects = tuple(Effect(name=f"r{i}", value=i, low=i - 1, high=i + 1) for i in range(rows))
    panel = Forest(title="Effects", x_label="x", effects=effects)
    shown = on_paper([panel])
    assert [one.title for one in shown] == ["Effects", *["Effects (continued)"] * (parts - 1)]
    assert tuple(row for one in shown for row in one.effects) == effects
    drawn = [printed(one, Colours(specimen())) for one in shown]
    heights = [int(re.search(r'height="(\d+)"', one)[1]) for one in drawn]
    assert max(heights) <= TALLEST
    assert all(height >= 19 * len(one.effects) for height, one in zip(heights, shown, strict=True))


def test_a_silent_end_is_told_by_its_code(tmp_path, broken):
    broken("raise SystemExit(7)")
    with pytest.raises(PaperError, match="exit 7"):
        typeset(tmp_path)


def test_typst_has_not_for_ever(tmp_path, broken, monkeypatch):
    broken("import time\ntime.sleep(60)")
    monkeypatch.setattr(typesetting, "PATIENCE", 0.2)
    deep = tmp_path / ("deep" * 60)  # a long path must not push the reason out of the message
    deep.mkdir()
    with pytest.raises(PaperError, match=r"timed out after 0\.2 seconds.*--no-pdf"):
        typeset(deep)


def test_without_a_python_to_run_it_is_an_error_too(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(PaperError, match="No such file"):
        typeset(tmp_path)


def test_the_fonts_are_matplotlib_s(monkeypatch):
    assert (font_folder() / "DejaVuSans.ttf").exists()
    monkeypatch.setattr(typesetting, "find_spec", lambda name: None)
    with pytest.raises(PaperError, match="found no matplotlib"):
        font_folder()
