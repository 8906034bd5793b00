"""The page holds everything, loads nothing, and what comes from files stays text."""

import json
import re
from html.parser import HTMLParser

import pytest
from hostile import NAMES, hostile
from specimen import specimen

from kdprobe.panels import Overlays, Table, Text, Viewer
from kdprobe.report.document import chapters
from kdprobe.report.html import SCRIPTS, page
from kdprobe.report.overlays import layers
from kdprobe.report.templating import script_json
from kdprobe.report.viewer import contact
from kdprobe.results import Results, StudySummary

LARGEST = 3.5e6  # bytes
LOADING = {"src", "href", "srcset", "action", "data", "poster", "background"}


class Reader(HTMLParser):
    """Notes what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.policy = ""
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every element, with its attributes."""
        facts = dict(attrs)
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append(facts)
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [facts["id"] or ""] if "id" in facts else []
        if facts.get("http-equiv") == "Content-Security-Policy":
            self.policy = facts["content"] or ""

    def handle_data(self, data: str) -> None:
        """The text between the elements."""
        self.text.append(data)


@pytest.fixture(scope="module")
def text() -> str:
    return page(specimen())


@pytest.fixture(scope="module")
def reader(text: str) -> Reader:
    return Reader(text)


def test_page_loads_nothing(text, reader):
    assert all(load.startswith(("#", "data:image/")) for load in reader.loads)
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in reader.policy


def test_page_runs_named_scripts_only(reader):
    assert reader.policy.count("'sha256-") == len(SCRIPTS) + 1  # and plotly
    assert "unsafe-inline" not in reader.policy.split("style-src")[0]
    code = [facts for facts in reader.scripts if not (facts.get("type") or "").startswith("appl")]
    assert code == [{}] * len(SCRIPTS)
    assert reader.handlers == []


def test_every_chapter_and_panel_stands_on_the_page(text, reader):
    panels = [panel for chapter in chapters(specimen()) for panel in chapter.panels]
    assert {chapter.key for chapter in chapters(specimen())} <= set(reader.ids)
    drawn = [panel for panel in panels if not isinstance(panel, Text | Table | Viewer | Overlays)]
    assert text.count('class="plot"') == text.count('data-plot="plot') == len(drawn) == 31
    viewers = [panel for panel in panels if isinstance(panel, Viewer)]
    pictures = sum(len(row) for panel in viewers for _, row in contact(panel))
    overlays = [panel for panel in panels if isinstance(panel, Overlays)]
    pictures += sum(len(tiles) for panel in overlays for _, tiles in layers(panel))
    assert reader.tags.count("img") == pictures == 31


def test_a_direction_is_told_only_of_metrics_that_have_one(text):
    found = {chapter.key: chapter.better for chapter in chapters(specimen())}
    directed = {key: told for key, told in found.items() if told}
    assert directed["metric-stability"] == "Higher is better."
    assert directed["metric-simultaneity"] == "Lower is better."
    assert not found["metric-accuracy"] + found["metric-fidelity"]
    assert text.count("<dt>Direction</dt>") == len(directed)


def test_no_more_is_said_of_a_baseline_than_is_known(text):
    assert "trained without the teacher" in text
    assert "same training" not in text


def test_ids_are_unique_and_links_lead_somewhere(reader):
    assert len(reader.ids) == len(set(reader.ids))
    anchors = {load[1:] for load in reader.loads if load.startswith("#")}
    assert anchors <= set(reader.ids)


def test_page_is_small_and_the_same_each_time(text):
    assert len(text.encode()) <= LARGEST
    assert page(specimen()) == text


def test_every_outcome_and_every_problem_is_named(reader):
    shown = " ".join(reader.text)
    for word in ("supported", "contradicted", "undecided", "not applicable"):
        assert word in shown
    assert "epoch-0006 holds NaN weights" in shown
    assert "too few images per confidence bin" in shown
    assert "5 verdicts change with the concept threshold b" in shown


def test_hostile_names_stay_text(reader):
    attacked = Reader(page(hostile()))
    assert attacked.tags.count("script") == reader.tags.count("script")
    assert attacked.tags.count("img") == reader.tags.count("img")
    assert attacked.handlers == []
    shown = "".join(attacked.text)
    for name in NAMES.values():
        assert name in shown


def test_json_in_a_script_cannot_end_it():
    value = {"</script><!-- \u2028 &": ["<", None, 1.5]}
    packed = script_json(value)
    assert not set("<>&\u2028") & set(packed)
    assert json.loads(packed) == value


def test_page_of_almost_nothing():
    study = StudySummary(name="empty", dataset="none", classes=(), runs=())
    text = page(Results(kdprobe_version="0", study=study, metrics=()))
    assert "The study holds no student" in text
    assert "No hypothesis was judged" in text
