"""What stands in the report, in which order?  Chapters of panels, drawn by both outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from kdprobe.panels import Forest, Heatmap, Lines, Panel, Surface
from kdprobe.report.finding import Finding
from kdprobe.report.sections.contract import METRICS_PLACE, SECTIONS, Section
from kdprobe.results import MetricReport, Results

BETTER = {"higher": "Higher is better.", "lower": "Lower is better.", "neither": ""}


@dataclass(frozen=True)
class Chapter:
    """One heading of the report with its panels, and for a metric what it asks and means."""

    key: str
    title: str
    panels: tuple[Panel, ...]
    part: str = ""  # of the page, that several chapters share
    question: str = ""
    definition: str = ""
    source: str = ""
    better: str = ""
    reason: str = ""  # why there is nothing to show; empty when there is

    def place_of(self, title: str) -> str:
        """The id of the first panel called `title`, or of the chapter where there is none."""
        titles = [panel.title for panel in self.panels]
        return f"{self.key}-{titles.index(title) + 1}" if title in titles else self.key


def chapters(results: Results) -> tuple[Chapter, ...]:
    """All chapters: the sections in their order, the metrics at METRICS_PLACE."""
    sections = sorted(SECTIONS.values(), key=lambda entry: entry.place)
    early = [entry for entry in sections if entry.place < METRICS_PLACE]
    late = [entry for entry in sections if entry.place >= METRICS_PLACE]
    metrics = tuple(_metric_chapter(metric) for metric in results.metrics)
    before, after = (
        tuple(_section_chapter(entry, results) for entry in part) for part in (early, late)
    )
    return before + metrics + after


def evidence(finding: Finding, shown: Sequence[Chapter]) -> str:
    """The id of what proves `finding` among the chapters `shown`; empty where nothing does."""
    places = [one.place_of(finding.panel) for one in shown if one.key == finding.anchor]
    return places[0] if places else ""


def _section_chapter(entry: Section, results: Results) -> Chapter:
    return Chapter(
        key=entry.key,
        title=entry.title,
        panels=tuple(entry.build(results)),
        question=entry.question,
        definition=entry.definition,
        source=entry.source,
    )


def _metric_chapter(metric: MetricReport) -> Chapter:
    reason = metric.reason or "no reason was given" if metric.status == "not applicable" else ""
    return Chapter(
        key=f"metric-{metric.key}",
        title=metric.title,
        panels=metric.panels,
        part=metric.part,
        question=metric.question,
        definition=metric.definition,
        source=metric.source,
        better=BETTER[metric.better],
        reason=reason,
    )


def describe(panel: Panel) -> str:
    """What a figure shows, for those who cannot see it."""
    if isinstance(panel, Lines):
        names = ", ".join(line.name for line in panel.series)
        text = f"Line chart of {panel.y_label} against {panel.x_label} for {names}."
    elif isinstance(panel, Heatmap):
        text = (
            f"Heat map of {len(panel.rows)} rows ({panel.row_label or 'rows'}) "
            f"by {len(panel.columns)} columns ({panel.column_label or 'columns'})."
        )
    elif isinstance(panel, Surface):
        text = f"Contours of {panel.z_label} over {panel.x_label} and {panel.y_label}."
    elif isinstance(panel, Forest):
        rows = "; ".join(_effect(entry.name, entry.value) for entry in panel.effects)
        text = f"Forest plot of {panel.x_label}: {rows}."
    else:
        text = ""
    return f"{panel.title}. {text} {panel.how_to_read}".strip()


def _effect(name: str, value: float | None) -> str:
    return f"{name} {'not known' if value is None else format(value, '.3g')}"
