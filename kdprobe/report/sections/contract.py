"""What a section is: a function from results to panels, and its place in the report.

Metrics need no section of their own: each MetricReport becomes one at METRICS_PLACE.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kdprobe.panels import Panel
from kdprobe.registry import Catalogue
from kdprobe.results import Results

Build = Callable[[Results], list[Panel]]
METRICS_PLACE = 50


@dataclass(frozen=True)
class Section:
    """One heading of the report. Sections are shown in the order of `place`."""

    key: str
    title: str
    place: int
    build: Build
    question: str = ""
    definition: str = ""  # of the numbers that it shows and no metric defines
    source: str = ""


SECTIONS: Catalogue[Section] = Catalogue("report section", "kdprobe.report.sections")


def section(
    key: str, *, title: str, place: int, question: str = "", definition: str = "", source: str = ""
) -> Callable[[Build], Build]:
    """Put the function below into SECTIONS under `key`."""

    def add(build: Build) -> Build:
        SECTIONS.add(key, Section(key, title, place, build, question, definition, source))
        return build

    return add
