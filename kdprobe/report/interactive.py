"""What does the page draw a figure from?  A panel's numbers and names, for `figure_kinds.js`.

A colour is the name of a CSS variable, so that figures follow the theme. Plotly itself is only read
as a file, never imported: its JavaScript goes into the page.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Any

from kdprobe.panels import Forest, Heatmap, Lines, Panel, Surface
from kdprobe.report.colours import Colours, first_dash
from kdprobe.report.numbers import number
from kdprobe.report.sketch import sketch

Figure = dict[str, Any]
DIGITS = 5  # significant ones of a number in a figure
MOST_NUMBERS = 20_000  # of an interactive figure; one that holds more stands still
MOST_HELD = 200_000  # of any figure in the page, about 1.4 MB; those of a larger one stay outside
LEGEND = 72  # letters that a row of a legend holds, about


def plotly_source() -> str:
    """The JavaScript of the installed plotly."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def figure(panel: Panel, colours: Colours) -> Figure | None:
    """What the page needs for `panel`, or None for a kind that is no figure.

    Returns:
        ``height`` in pixels; ``sketch``, the figure as SVG; ``data``, its numbers, from which the
        scripts draw and save it, or None where there are more than the page holds; ``note``, one
        sentence on why it stands still, or empty.
    """
    drawers: dict[type, Callable[[Any, Colours], Figure]] = {
        Lines: _lines,
        Heatmap: _heatmap,
        Surface: _surface,
        Forest: _forest,
    }
    draw = drawers.get(type(panel))
    if draw is None:
        return None
    height, count = _height(panel), _numbers(panel)
    held = {"kind": panel.kind, "height": height, **draw(panel, colours)}
    return {
        "height": height,
        "sketch": sketch(panel, colours, height),
        "data": held if count <= MOST_HELD else None,
        "note": _too_many(count),
    }


def _too_many(count: int) -> str:
    """Why a figure of so many numbers stands still; empty when it does not."""
    if count <= MOST_NUMBERS:
        return ""
    limit, holder, end = MOST_NUMBERS, "an interactive figure", "the buttons save them all the same"
    if count > MOST_HELD:
        limit, holder, end = MOST_HELD, "a figure of this page", "results.json has them"
    return (
        f"A still picture: its {number(count)} numbers are more than the {number(limit)} that "
        f"{holder} holds; {end}."
    )


def _height(panel: Panel) -> int:
    """Pixels."""
    if isinstance(panel, Heatmap):
        return min(max(240, 120 + 34 * len(panel.rows)), 1400)
    if isinstance(panel, Forest):
        rows = len(panel.effects)
        return 90 + max(min(30 * rows, 2300), 14 * rows)  # names need 14 pixels
    if isinstance(panel, Lines):
        letters = sum(len(series.name) + 6 for series in panel.series)
        return 300 + 18 * min(letters // LEGEND, 12)
    return 340


def _numbers(panel: Panel) -> int:
    """How many the figure shows."""
    if isinstance(panel, Lines):
        return sum(len(side) for s in panel.series for side in (s.x, s.y, s.low, s.high))
    if isinstance(panel, Heatmap):
        return len(panel.rows) * len(panel.columns)
    if isinstance(panel, Surface):
        return len(panel.x) * len(panel.y) + sum(2 * len(track.x) for track in panel.tracks)
    return 3 * len(panel.effects) if isinstance(panel, Forest) else 0


def _lines(panel: Lines, colours: Colours) -> Figure:
    lines: list[Figure] = []
    seen: dict[str, int] = {}
    before: Sequence[float] | None = None
    for place, series in enumerate(panel.series):
        ink = colours.of(series.role, series.name, place)
        dash = seen[ink] = seen.get(ink, first_dash(series.role) - 1) + 1
        line = {"name": series.name, "ink": ink, "dash": dash, "y": _short(series.y)}
        if series.x != before:  # else it is that of the line before
            line["x"] = _short(series.x)
        if series.low and series.high:
            line |= {"low": _short(series.low), "high": _short(series.high)}
        before = series.x
        lines.append(line)
    shown = {"x": panel.x_label, "y": panel.y_label, "log": panel.log_y, "lines": lines}
    return shown | ({"names": panel.x_names} if panel.x_names else {})


def _heatmap(panel: Heatmap, colours: Colours) -> Figure:
    low, high = panel.span
    return {
        "x": panel.column_label,
        "y": panel.row_label,
        "columns": panel.columns,
        "rows": panel.rows,
        "z": [_short(row) for row in panel.values],
        "low": low,
        "high": high,
    }


def _surface(panel: Surface, colours: Colours) -> Figure:
    tracks = [
        {
            "name": track.name,
            "ink": colours.of(track.role, track.name, place),
            "x": _short(track.x),
            "y": _short(track.y),
            "labels": track.labels,
        }
        for place, track in enumerate(panel.tracks)
    ]
    return {
        "x": panel.x_label,
        "y": panel.y_label,
        "value": panel.z_label,
        "across": _short(panel.x),
        "up": _short(panel.y),
        "z": [_short(row) for row in panel.z],
        "tracks": tracks,
    }


def _forest(panel: Forest, colours: Colours) -> Figure:
    rows = [
        [entry.name, entry.verdict, *_short((entry.value, entry.low, entry.high))]
        for entry in panel.effects
    ]
    return {"x": panel.x_label, "rows": rows}


def _short(values: Iterable[float | None]) -> list[float | int | None]:
    """The values to DIGITS significant digits, whole ones without a point."""
    return [None if value is None else _trimmed(value) for value in values]


def _trimmed(value: float) -> float | int:
    found = float(f"{value:.{DIGITS}g}")
    return int(found) if found.is_integer() and abs(found) < 1e15 else found
