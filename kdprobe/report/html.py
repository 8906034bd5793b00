"""How does the report become one page?  One file, everything inside, nothing loaded."""

import base64
import gzip
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from kdprobe.panels import Panel, Table, Viewer
from kdprobe.report.colours import Colours
from kdprobe.report.document import Chapter, chapters, evidence
from kdprobe.report.finding import Finding
from kdprobe.report.headline import ALL_JUDGED, READING, WAYS, headline, key_estimate
from kdprobe.report.interactive import figure, plotly_source
from kdprobe.report.numbers import scales
from kdprobe.report.overlays import AGAINST, FOR, layers, most_layers
from kdprobe.report.pictures import heat_colour, most_tiles, tiles
from kdprobe.report.templating import LONG_TABLE, environment, frame
from kdprobe.report.viewer import contact, viewed
from kdprobe.results import Results

STYLES = ("page", "verdicts", "tables", "figures", "gallery")
SCRIPTS = (
    "page",
    "figure_kinds",
    "plots",
    "figure_files",
    "relief",
    "tables",
    "gallery_data",
    "gallery_tiles",
    "gallery_full",
    "gallery",
)
MOST_UNJUDGED = 5  # on the first screen; the others are folded
SLIM_COLUMNS, SLIM_TEXT = 4, 22  # columns, letters
STRIPES = 9  # colours in the legend of the entropy maps


def page(results: Results) -> str:
    """The whole report as one HTML document."""
    plotly, shown = plotly_source(), chapters(results)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            chapters=shown,
            headline=headline(results),
            plots=_Plots(Colours(results), shown),
            plotly=Markup(_packed(plotly)),
            heat=", ".join(f"rgb{heat_colour(step / (STRIPES - 1))}" for step in range(STRIPES)),
            **frame(STYLES, SCRIPTS, plotly),
        )
    )


class _Plots:
    """Gives each figure of the page its number."""

    def __init__(self, colours: Colours, shown: Sequence[Chapter]) -> None:
        self._colours, self._chapters = colours, shown
        self._count = 0
        self._galleries = 0

    def data(self, panel: Panel) -> dict[str, Any] | None:
        """The figure of `panel`, if it is one that plotly draws."""
        return figure(panel, self._colours)

    def colour(self, role: str, name: str) -> str:
        """The CSS variable of a network's colour."""
        return f"var(--{self._colours.of(role, name)})"

    def evidence(self, finding: Finding) -> str:
        """The id of what proves `finding`, or of the whole report."""
        return evidence(finding, self._chapters) or "main"

    def next_gallery(self) -> str:
        """The id of the next gallery that the page draws itself."""
        self._galleries += 1
        return f"gallery-{self._galleries}"

    def viewer(self, panel: Viewer) -> dict[str, Any]:
        """What the page draws `panel` from."""
        return viewed(panel, self._colours)

    def next_id(self) -> str:
        """The id of the next figure."""
        self._count += 1
        return f"plot-{self._count}"


def _environment() -> Environment:
    filled = environment()
    filled.filters |= {"tiles": tiles, "contact": contact, "layers": layers}
    filled.globals |= {
        "most_unjudged": MOST_UNJUDGED,
        "key_estimate": key_estimate,
        "reading": READING,
        "all_judged": ALL_JUDGED,
        "ways": WAYS,
        "scales": scales,
        "is_slim": _is_slim,
        "most_tiles": most_tiles,
        "most_layers": most_layers,
        "signs": tuple(f"rgb{colour}" for colour in (AGAINST, FOR)),
    }
    return filled


def _is_slim(table: Table) -> bool:
    """Whether half the page's width is enough; a folded table stands alone."""
    if len(table.rows) > LONG_TABLE:
        return False
    texts = [cell for row in table.rows for cell in row if isinstance(cell, str)]
    return len(table.columns) <= SLIM_COLUMNS and max(map(len, texts), default=0) <= SLIM_TEXT


@lru_cache(maxsize=1)
def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")
