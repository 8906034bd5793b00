"""How do results look in a notebook?  One fragment of HTML without scripts, or a matplotlib figure.

`Shown._repr_html_` and `Shown.plot` of `panels.py` lend their work to this file.
"""

import base64
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from kdprobe.errors import UsageError
from kdprobe.panels import Effect, Forest, Lines, Shown, Surface, Table
from kdprobe.registry import did_you_mean
from kdprobe.report.colours import OUTCOME_PRINT, Colours
from kdprobe.report.document import chapters
from kdprobe.report.headline import headline, key_estimate
from kdprobe.report.numbers import number
from kdprobe.report.overlays import layers
from kdprobe.report.pictures import smaller, tiles
from kdprobe.report.printed import printed
from kdprobe.report.templating import environment, source
from kdprobe.report.viewer import contact
from kdprobe.results import MetricReport, Results, Verdict

MOST_ROWS = 12  # of a table
MOST_PICTURES = 3  # of a gallery


def fragment(shown: Shown) -> str:
    """What `shown` says, as HTML that stands in a cell: styled, escaped, nothing to load."""
    module = _template()
    colours = _colours(shown)
    if isinstance(shown, Results):
        inside = module.results(shown, headline(shown))
    elif isinstance(shown, MetricReport):
        inside = module.metric(shown, [_laid(panel, colours) for panel in shown.panels])
    elif isinstance(shown, Verdict):
        inside = module.verdicts([shown])
    else:
        inside = module.panel(_laid(shown, colours))
    return str(module.whole(inside))


def plotted(shown: Shown, metric: str = "") -> Any:
    """The figures of `shown`, or of the metric called so in results, as a matplotlib figure.

    Raises:
        UsageError: there is no such metric, or nothing that is a figure.
    """
    from kdprobe.report.still import figure_of  # only who draws pays for matplotlib

    figure = figure_of(_panels(shown, metric), _colours(shown))
    if figure is None:
        raise UsageError(
            f"found no figure in {metric or getattr(shown, 'title', 'this')!r}; wanted curves, a "
            "heat map, a surface or a forest plot; show the record itself for tables and pictures"
        )
    return figure


def _panels(shown: Shown, metric: str) -> list[Any]:
    if isinstance(shown, Verdict):
        return [_forest(shown)]
    if isinstance(shown, Results) and not metric:
        return [panel for one in chapters(shown) if one.key == "effects" for panel in one.panels]
    if isinstance(shown, Results):
        found = shown.metric(metric)
        if found is None:
            known = [entry.key for entry in shown.metrics]
            hint = did_you_mean(metric, known) or f"; these have: {', '.join(known)}"
            raise UsageError(f"found no metric {metric!r} in these results{hint}")
        shown = found
    return list(shown.panels) if isinstance(shown, MetricReport) else [shown]


def _forest(verdict: Verdict) -> Forest:
    effects = tuple(
        Effect(name=e.quantity, value=e.effect, low=e.low, high=e.high, verdict=e.outcome)
        for e in verdict.estimates
    )
    title = ", ".join(part for part in (verdict.claim, verdict.arm, verdict.layer) if part)
    return Forest(title=title, x_label="student minus baseline", effects=effects)


def _colours(shown: Shown) -> Colours:
    """Of the study, or of the networks that the figures name, in the order they are met."""
    if isinstance(shown, Results):
        return Colours(shown)
    panels = shown.panels if isinstance(shown, MetricReport) else (shown,)
    named: list[tuple[str, str]] = []
    for panel in panels:
        if isinstance(panel, Lines):
            named += [(series.role, series.name) for series in panel.series]
        elif isinstance(panel, Surface):
            named += [(track.role, track.name) for track in panel.tracks]
    return Colours(named)


def _laid(panel: Any, colours: Colours) -> dict[str, Any]:
    """A panel, and its pictures where it has some."""
    drawn = printed(panel, colours)
    picture = base64.b64encode(drawn.encode()).decode()
    rows: list[Any] = []
    if panel.kind == "viewer":
        rows = [row for _, row in contact(panel)]
    elif panel.kind == "gallery":
        rows = [list(map(smaller, row)) for _, row in tiles(panel)[:MOST_PICTURES]]
    elif panel.kind == "overlays":
        rows = [list(map(smaller, row)) for _, row in layers(panel)[:MOST_PICTURES]]
    figure = f"data:image/svg+xml;base64,{picture}" if drawn else ""
    return {"panel": panel, "figure": figure, "rows": rows}


def _rest(table: Table) -> str:
    count = len(table.rows)
    return f"The first {MOST_ROWS} of {number(count)} rows." if count > MOST_ROWS else ""


@lru_cache(maxsize=1)
def _template() -> Any:
    filled = environment()
    filled.filters |= {"rest": _rest}
    filled.globals |= {
        "inks": OUTCOME_PRINT,
        "key_estimate": key_estimate,
        "most_rows": MOST_ROWS,
        "style": Markup(source("notebook.css")),  # our own file
    }
    return filled.get_template("notebook.html.j2").module
