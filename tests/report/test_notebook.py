"""In a notebook results speak for themselves: escaped, without scripts, the page's own numbers."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hostile import NAMES, hostile
from matplotlib.figure import Figure
from specimen import specimen

from kdprobe.errors import UsageError
from kdprobe.panels import Forest, Gallery, Heatmap, Lines, Overlays, Surface, Table, Text, Viewer
from kdprobe.report.document import describe
from kdprobe.report.headline import headline, key_estimate
from kdprobe.report.numbers import interval, percent
from kdprobe.results import Results, StudySummary

FIGURES = Forest | Heatmap | Lines | Surface
PICTURES = Gallery | Overlays | Viewer


class Read(HTMLParser):
    """The tags, words and pictures of a fragment."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.words += data


def shown_records():
    results = specimen()
    panels = [panel for metric in results.metrics for panel in metric.panels]
    return [results, *results.metrics, *results.verdicts[:2], *panels]


@pytest.mark.parametrize("record", shown_records(), ids=lambda one: type(one).__name__)
def test_a_fragment_loads_nothing_runs_nothing_and_keeps_its_style_to_itself(record):
    text = record._repr_html_()
    read = Read(text)
    assert not {"script", "iframe", "link", "object", "form"} & set(read.tags)
    assert all(one["src"].startswith("data:image/") and one["alt"] for one in read.images)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    rules = [line for line in style.splitlines() if line]
    assert all(line.startswith(".kdprobe-shown ") for line in rules)
    assert "http" not in text


def test_results_say_what_the_page_says():
    read = Read(specimen()._repr_html_())
    for words in ("92.3%", "86.2%", "+4.5", "supported", "What deserves attention"):
        assert words in read.words
    for metric in specimen().metrics:
        assert f'results.metric("{metric.key}")' in read.words
    top = headline(specimen())
    for arm in top.arms:
        assert percent(arm.accuracy) in read.words
        assert arm.gain is None or arm.gain_in_points in read.words
    for verdict in specimen().verdicts:
        estimate = key_estimate(verdict)
        assert estimate is None or interval(estimate) in read.words


def test_every_panel_of_a_metric_is_there_with_its_words():
    for metric in specimen().metrics:
        read = Read(metric._repr_html_())
        figures = [panel for panel in metric.panels if isinstance(panel, FIGURES)]
        alts = [one["alt"] for one in read.images]
        assert [describe(panel) for panel in figures] == alts[: len(figures)]
        assert all(panel.title in read.words for panel in metric.panels)
        pictured = any(isinstance(panel, PICTURES) for panel in metric.panels)
        assert (len(alts) > len(figures)) == pictured


def test_figures_are_whole_svg_that_needs_no_page():
    images = [one for metric in specimen().metrics for one in Read(metric._repr_html_()).images]
    drawn = [one["src"] for one in images if one["src"].startswith("data:image/svg+xml;base64,")]
    assert drawn
    for one in drawn:
        text = base64.b64decode(one.split(",")[1]).decode()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
        classes = set(re.findall(r'class="(\w[^"]*)"', text.split("</style>")[1]))
        assert classes <= {"l", *re.findall(r"\.(\w+)[ ,{]", text)} | {"sketch", "n"}


def test_what_is_not_applicable_says_why():
    (metric,) = [one for one in specimen().metrics if one.status != "measured"][:1]
    assert f"Not applicable: {metric.reason}" in Read(metric._repr_html_()).words


def test_hostile_names_stay_text_in_a_notebook():
    results = hostile()
    records = [results, *results.metrics, *results.verdicts]
    for record in records:
        assert "script" not in Read(record._repr_html_()).tags
    assert all(
        name in Read(results._repr_html_()).words for name in (NAMES["kd"], results.study.name)
    )


def test_nothing_is_shown_as_nothing():
    study = StudySummary(name="", dataset="none", classes=(), runs=())
    empty = Results(kdprobe_version="0", study=study, metrics=())
    assert "The study holds no student" in Read(empty._repr_html_()).words


def test_a_long_table_is_shortened():
    table = Table(title="T", columns=("n",), rows=tuple((i,) for i in range(100)))
    read = Read(table._repr_html_())
    assert read.tags.count("td") == 12
    assert "The first 12 of 100 rows." in read.words


def drawn_lines(figure: Figure) -> list[list[float]]:
    return [list(line.get_ydata()) for axes in figure.axes for line in axes.lines]


def test_plot_draws_the_numbers_of_the_panel():
    panels = [panel for metric in specimen().metrics for panel in metric.panels]
    lines = next(panel for panel in panels if isinstance(panel, Lines))
    figure = lines.plot()
    assert isinstance(figure, Figure)
    known = [list(series.y) for series in lines.series if None not in series.y]
    assert all(series in drawn_lines(figure) for series in known)
    assert figure.axes[0].get_title(loc="left") == lines.title


@pytest.mark.parametrize("kind", [Forest, Heatmap, Lines, Surface])
def test_every_kind_of_figure_can_be_drawn(kind):
    panels = [panel for metric in specimen().metrics for panel in metric.panels]
    file = io.BytesIO()
    next(panel for panel in panels if isinstance(panel, kind)).plot().savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


@pytest.mark.slow
def test_plot_of_a_metric_shows_all_its_figures_in_the_study_s_colours():
    results = specimen()
    for metric in results.metrics:
        titles = [panel.title[:79] for panel in metric.panels if isinstance(panel, FIGURES)]
        if titles:
            figure = results.plot(metric.key)
            named = [axes.get_title(loc="left")[:79] for axes in figure.axes]
            assert [one for one in named if one] == titles
            colours = [line.get_color() for axes in figure.axes for line in axes.lines]
            alone = [line.get_color() for axes in metric.plot().axes for line in axes.lines]
            assert len(colours) == len(alone)


def test_plot_of_a_verdict_and_of_all_of_them():
    results = specimen()
    verdict = next(one for one in results.verdicts if one.estimates)
    labels = [label.get_text() for label in verdict.plot().axes[0].get_yticklabels()]
    assert [label.split("\n")[0] for label in labels] == [e.quantity for e in verdict.estimates]
    assert len(results.plot().axes) >= len({one.claim for one in results.verdicts})


def test_a_metric_alone_has_the_colours_that_the_study_gives_it():
    results = specimen()
    metric = next(
        one for one in results.metrics if any(isinstance(panel, Lines) for panel in one.panels)
    )
    panel = next(panel for panel in metric.panels if isinstance(panel, Lines))
    alone = [line.get_color() for line in panel.plot().axes[0].lines]
    study = [line.get_color() for line in results.plot(metric.key).axes[0].lines]
    assert alone == study


def test_what_has_no_figure_says_so():
    with pytest.raises(UsageError, match="found no figure in 'Words'"):
        Text(title="Words", text="x").plot()
    with pytest.raises(UsageError, match=r"found no metric 'ckka' .*did you mean"):
        specimen().plot("ckka")
