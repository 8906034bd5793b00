"""How does a panel look in the page?  A plotly figure as a plain dict; the page gives the colours.

A colour is written ``var(--NAME)``; `page.js` puts in the value of the theme in use. Plotly itself
is only read as a file, never imported: its JavaScript goes into the page.
"""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from kdprobe.panels import Forest, Heatmap, Lines, Panel, Series, Surface, Track
from kdprobe.report.colours import Colours, first_dash

Figure = dict[str, Any]
DASHES = ("solid", "dash", "dot", "dashdot")
MARKS = ("circle", "square", "diamond", "triangle-up")
HEAT_SCALE = [[place / 4, f"var(--heat-{place})"] for place in range(5)]
WRITTEN_CELLS = 400  # more cells than this are not written into


def plotly_source() -> str:
    """The JavaScript of the installed plotly."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def figure(panel: Panel, colours: Colours) -> Figure | None:
    """The plotly figure of `panel`, or None when the page shows that kind without plotly."""
    drawers: dict[type, Callable[[Any, Colours], Figure]] = {
        Lines: _lines,
        Heatmap: _heatmap,
        Surface: _surface,
        Forest: _forest,
    }
    draw = drawers.get(type(panel))
    return draw(panel, colours) if draw else None


def _lines(panel: Lines, colours: Colours) -> Figure:
    traces: list[Figure] = []
    seen: dict[str, int] = {}
    for place, series in enumerate(panel.series):
        colour = colours.of(series.role, series.name, place)
        style = seen[colour] = seen.get(colour, first_dash(series.role) - 1) + 1
        if series.low and series.high:
            traces.append(_band(series, colour))
        traces.append(_line(series, colour, style))
    layout = _axes(panel.x_label, panel.y_label)
    if panel.log_y:
        layout["yaxis"] |= {"type": "log", "dtick": 1}
    return {"data": traces, "layout": layout, "height": 320}


def _band(series: Series, colour: str) -> Figure:
    pairs = zip(series.x, series.low, series.high, strict=True)
    edges = [(x, low, high) for x, low, high in pairs if low is not None and high is not None]
    back = edges[::-1]
    return {
        "type": "scatter",
        "x": [x for x, _, _ in edges] + [x for x, _, _ in back],
        "y": [low for _, low, _ in edges] + [high for _, _, high in back],
        "fill": "toself",
        "fillcolor": f"var(--{colour}-band)",
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": series.name,
    }


def _line(series: Series, colour: str, style: int) -> Figure:
    return {
        "type": "scatter",
        "name": _inert(series.name),
        "legendgroup": series.name,
        "x": list(series.x),
        "y": list(series.y),
        "mode": "lines+markers" if len(series.x) <= 30 else "lines",
        "line": {"color": f"var(--{colour})", "width": 2.2, "dash": DASHES[style % len(DASHES)]},
        "marker": {"color": f"var(--{colour})", "size": 6, "symbol": MARKS[style % len(MARKS)]},
        "hovertemplate": "%{y:.4~g}",
    }


def _heatmap(panel: Heatmap, colours: Colours) -> Figure:
    cells = len(panel.rows) * len(panel.columns)
    known = [value for row in panel.values for value in row if value is not None]
    small = all(abs(value) < 10 for value in known)
    low = panel.low if panel.low is not None else min(known, default=0.0)
    high = panel.high if panel.high is not None else max(known, default=1.0)
    trace = {
        "type": "heatmap",
        "z": [list(row) for row in panel.values],
        "x": _places(panel.columns),
        "y": _places(panel.rows),
        "zmin": low,
        "zmax": high,
        "colorscale": HEAT_SCALE,
        "xgap": 2,
        "ygap": 2,
        "hovertemplate": "row %{y}, column %{x}: %{z:.4~g}<extra></extra>",
        "colorbar": {"thickness": 10, "outlinewidth": 0, "len": 0.9},
    }
    if cells <= WRITTEN_CELLS:
        trace["texttemplate"] = "%{z:.2f}" if small else "%{z:.3~g}"
    layout = _axes(panel.column_label, panel.row_label)
    layout["xaxis"] |= _named(panel.columns)
    layout["yaxis"] |= _named(panel.rows) | {"autorange": "reversed"}
    layout["plot_bgcolor"] = "var(--missing)"
    return {"data": [trace], "layout": layout, "height": max(240, 120 + 34 * len(panel.rows))}


def _surface(panel: Surface, colours: Colours) -> Figure:
    trace = {
        "type": "contour",
        "x": list(panel.x),
        "y": list(panel.y),
        "z": [list(row) for row in panel.z],
        "colorscale": HEAT_SCALE,
        "ncontours": 18,
        "line": {"width": 0.8, "color": "var(--contour)"},
        "colorbar": {
            "thickness": 10,
            "outlinewidth": 0,
            "title": {"text": _inert(panel.z_label), "side": "right"},
        },
        "hovertemplate": "%{x:.3~g}, %{y:.3~g}: %{z:.4~g}<extra></extra>",
    }
    tracks = [_track(panel.tracks[i], colours, i) for i in range(len(panel.tracks))]
    layout = _axes(panel.x_label, panel.y_label)
    return {"data": [trace, *tracks], "layout": layout, "height": 340}


def _track(track: Track, colours: Colours, place: int) -> Figure:
    colour = f"var(--{colours.of(track.role, track.name, place)})"
    last = [""] * (len(track.x) - 1) + [_inert(_short(track.name))]
    return {
        "type": "scatter",
        "name": _inert(track.name),
        "x": list(track.x),
        "y": list(track.y),
        "text": last,
        "customdata": [_inert(label) for label in track.labels] or [""] * len(track.x),
        "textposition": "top center",
        "mode": "lines+markers+text",
        "line": {"color": colour, "width": 2.2},
        "marker": {"color": colour, "size": 7, "symbol": MARKS[place % len(MARKS)]},
        "hovertemplate": "%{customdata}<extra>" + _inert(_short(track.name)) + "</extra>",
        "showlegend": False,
    }


def _forest(panel: Forest, colours: Colours) -> Figure:
    traces = []
    for place, effect in enumerate(panel.effects):
        if effect.value is None:
            continue
        ends = effect.low, effect.high
        name = effect.verdict.replace(" ", "-") if effect.verdict else "plain"
        ink = f"var(--{name})" if name in FOREST_INKS else "var(--plain)"
        trace: Figure = {
            "type": "scatter",
            "x": [effect.value],
            "y": [place],
            "mode": "markers",
            "marker": {"color": ink, "size": 10, "symbol": "diamond"},
            "showlegend": False,
            "hovertemplate": "%{x:.4~g}<extra></extra>",
        }
        if ends[0] is not None and ends[1] is not None:
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": [ends[1] - effect.value],
                "arrayminus": [effect.value - ends[0]],
                "color": ink,
                "thickness": 2.2,
                "width": 5,
            }
        traces.append(trace)
    return {
        "data": traces,
        "layout": _forest_layout(panel),
        "height": 130 + 36 * len(panel.effects),
    }


FOREST_INKS = ("supported", "contradicted", "undecided", "not-applicable")


def _forest_layout(panel: Forest) -> Figure:
    layout = _axes(panel.x_label, "")
    names = tuple(
        f"{entry.name} ({entry.verdict})" if entry.verdict else entry.name
        for entry in panel.effects
    )
    layout["yaxis"] |= _named(names) | {
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
        "zeroline": False,
    }
    layout["hovermode"] = "closest"
    layout["shapes"] = [
        {
            "type": "line",
            "x0": 0,
            "x1": 0,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": "var(--muted)", "width": 1.2, "dash": "dash"},
        }
    ]
    return layout


def _axes(x_label: str, y_label: str) -> Figure:
    return {
        "xaxis": {"title": {"text": _inert(x_label)}},
        "yaxis": {"title": {"text": _inert(y_label)}},
    }


def _places(names: tuple[str, ...]) -> list[int]:
    """Positions instead of names: equal names stay apart, and names are never read as numbers."""
    return list(range(len(names)))


def _named(names: tuple[str, ...]) -> Figure:
    ticks = [_inert(_short(name)) for name in names]
    return {"tickmode": "array", "tickvals": _places(names), "ticktext": ticks, "showgrid": False}


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _inert(text: str) -> str:
    """Plotly reads a few tags, and mathematics between dollars; here text is only shown."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
    return "".join(entities.get(sign, sign) for sign in text)
