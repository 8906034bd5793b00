"""How does a panel look in a notebook, and a gallery in a file?  As a matplotlib figure."""

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullFormatter
from PIL import Image

from kdprobe.panels import Forest, Gallery, Heatmap, Lines, Panel, Surface
from kdprobe.report.colours import OUTCOME_PRINT, PRINT, Colours, first_dash
from kdprobe.report.pictures import Tile, heat_colour, most_tiles, reach, tiles
from kdprobe.report.sketch_axes import short
from kdprobe.report.themes import LIGHT

WIDTH, SHARP = 5.5, 130  # inches of a figure, and its dots an inch
TILE, DOTS = 1.25, 200  # inches of a picture on a sheet, dots an inch
UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
INK, MUTED, RULE, MISSING = (LIGHT[name] for name in ("ink", "muted", "rule", "missing"))
HEAT = LinearSegmentedColormap.from_list(
    "heat", [LIGHT[f"heat-{place}"] for place in range(5)]
).with_extremes(bad=MISSING)
DASHES = ("solid", "dashed", "dotted", "dashdot")
MARKS = "osD^"
LONGEST, ROW = 18, 28  # letters of a name, and of that of a row of a forest plot
TITLE = 80  # letters of a title
WRITTEN = 150  # cells; in more no values are written
ROOM = 48  # letters that fit side by side below a heat map
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "kdprobe",
    "svg.fonttype": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
}


def figure_of(panels: Sequence[Panel], colours: Colours) -> Figure | None:
    """The figures among `panels`, one below the other, with their titles; None where none is."""
    drawers: dict[type, Callable[[Axes, Any, Colours], None]] = {
        Lines: _lines,
        Heatmap: _heatmap,
        Surface: _surface,
        Forest: _forest,
    }
    shown = [panel for panel in panels if type(panel) in drawers]
    if not shown:
        return None
    heights = [_height(panel) for panel in shown]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained", dpi=SHARP)
        rows = figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(rows, shown, strict=True):
            drawers[type(panel)](axes, panel, colours)
            axes.set_title(short(panel.title, TITLE), fontsize=8, loc="left", color=INK)
        FigureCanvasAgg(figure)  # only now: seaborn draws the whole at every heat map
    return figure


def sheet(galleries: Sequence[Gallery], kind: str) -> bytes:
    """All pictures of `galleries` on one sheet: a row a picture and layer, a column a network.

    `kind` is a file format of matplotlib: png, svg, pdf.
    """
    rows = [(gallery, *row) for gallery in galleries for row in tiles(gallery)]
    columns = max(most_tiles(gallery) for gallery in galleries)
    size = (TILE * columns + 1.2, (TILE + 0.16) * len(rows) + 0.3)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph|constrained_layout not applied")
        close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.01, hspace=0, wspace=0)
        figure = Figure(figsize=size, layout=close, dpi=DOTS)
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for place, (gallery, picture, shown) in enumerate(rows):
            for axes, tile in zip(grid[place], shown, strict=False):
                _tile(axes, tile, first=place == 0)
            for axes in grid[place, len(shown) :]:
                axes.set_axis_off()
            grid[place, 0].set_ylabel(f"{gallery.layer}\n{picture.name}", color=INK)
        _scale(figure, grid, galleries)
        file = io.BytesIO()
        figure.savefig(file, format=kind, metadata=UNDATED.get(kind))
    return file.getvalue()


def _tile(axes: Axes, tile: Tile, *, first: bool) -> None:
    axes.imshow(np.asarray(Image.open(io.BytesIO(tile.image))), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(tile.note, fontsize=6.5)
    axes.spines[:].set_visible(False)
    if first:
        axes.set_title(short(tile.title, LONGEST), fontsize=7.5)


def _scale(figure: Figure, grid: Any, galleries: Sequence[Gallery]) -> None:
    """The colours in nats, where all layers share them; else only which end is which."""
    inks = [heat_colour(step / 255) for step in range(256)]
    colours = ListedColormap(np.array(inks) / 255)
    spans = {reach(gallery) for gallery in galleries}
    low, high = spans.pop() if len(spans) == 1 else (0.0, 1.0)
    shown = ScalarMappable(Normalize(low, high), colours)
    bar = figure.colorbar(
        shown, ax=grid, anchor=(0, 0), shrink=1 / len(grid) ** 0.5, aspect=20, pad=0.01
    )
    bar.outline.set_visible(False)
    if spans:
        bar.set_ticks([low, high], labels=["discarded", "kept"])
    else:
        bar.set_label("kept (nats)")


def _height(panel: Panel) -> float:
    if isinstance(panel, Heatmap):
        return min(1.0 + 0.28 * len(panel.rows), 7.0)
    if isinstance(panel, Forest):
        return 0.8 + 0.24 * len(panel.effects)
    return 2.5


def _lines(axes: Axes, panel: Lines, colours: Colours) -> None:
    seen: dict[str, int] = {}
    for place, series in enumerate(panel.series):
        name = colours.of(series.role, series.name, place)
        style = seen[name] = seen.get(name, first_dash(series.role) - 1) + 1
        x = np.asarray(series.x)
        axes.plot(
            x,
            _floats(series.y),
            color=PRINT[name],
            linestyle=DASHES[style % len(DASHES)],
            marker=MARKS[style % len(MARKS)] if len(x) <= 30 else "",
            markersize=3,
            linewidth=1.3,
            label=_labelled(series.name),
        )
        if series.low and series.high:
            edges = _floats(series.low), _floats(series.high)
            axes.fill_between(x, *edges, color=PRINT[name], alpha=0.13, linewidth=0)
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_y and any(y is not None and y > 0 for series in panel.series for y in series.y):
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set(major_formatter=plain, minor_formatter=NullFormatter())
    if names := [short(name, LONGEST) for name in panel.x_names]:
        turn = 45 if sum(map(len, names)) > ROOM else 0
        axes.set_xticks(range(1, len(names) + 1), names, rotation=turn)
    axes.grid(True)
    if panel.series:
        axes.legend(frameon=False, fontsize=6.5, handlelength=2.2)


def _heatmap(axes: Axes, panel: Heatmap, colours: Colours) -> None:
    values = np.array([_floats(row) for row in panel.values]).reshape(
        len(panel.rows), len(panel.columns)
    )
    known = values[np.isfinite(values)]
    low, high = panel.span
    seaborn.heatmap(
        values,
        ax=axes,
        cmap=HEAT,
        vmin=low,
        vmax=high,
        annot=values.size <= WRITTEN,
        fmt=".2f" if (np.abs(known) < 10).all() else ".3g",
        annot_kws={"fontsize": 6.5},
        linewidths=0.8,
        linecolor="white",
        xticklabels=[short(name, LONGEST) for name in panel.columns],
        yticklabels=[short(name, LONGEST) for name in panel.rows],
        cbar_kws={"aspect": 24, "pad": 0.02},
    )
    axes.collections[0].colorbar.outline.set_visible(False)  # type: ignore[union-attr]  # heatmap makes one
    axes.set(xlabel=panel.column_label, ylabel=panel.row_label)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    crowded = max(map(len, panel.columns), default=0) * len(panel.columns) > ROOM
    axes.tick_params(axis="x", rotation=90 if crowded else 0)


def _surface(axes: Axes, panel: Surface, colours: Colours) -> None:
    z = np.array([_floats(row) for row in panel.z])
    if np.isfinite(z).any():
        filled = axes.contourf(panel.x, panel.y, np.ma.masked_invalid(z), levels=18, cmap=HEAT)
        lines = axes.contour(filled, colors=INK, linewidths=0.35, alpha=0.6)
        lines.set_linestyle("solid")
        bar = axes.figure.colorbar(filled, ax=axes, aspect=24, pad=0.02, label=panel.z_label)
        bar.outline.set_visible(False)
    for place, track in enumerate(panel.tracks):
        ink = PRINT[colours.of(track.role, track.name, place)]
        axes.plot(track.x, track.y, color=ink, marker=MARKS[place % len(MARKS)], markersize=3.5)
        axes.annotate(
            _labelled(track.name),
            (track.x[-1], track.y[-1]),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=6.5,
        )
    axes.set(xlabel=panel.x_label, ylabel=panel.y_label)


def _forest(axes: Axes, panel: Forest, colours: Colours) -> None:
    axes.axvline(0.0, color=MUTED, linewidth=0.8, linestyle="dashed")
    for place, effect in enumerate(panel.effects):
        ink = OUTCOME_PRINT.get(effect.verdict, MUTED)
        if effect.low is not None and effect.high is not None:
            axes.plot([effect.low, effect.high], [place, place], color=ink, linewidth=1.6)
        if effect.value is not None:
            axes.plot([effect.value], [place], color=ink, marker="D", markersize=4)
    names = [
        f"{short(entry.name, ROW)}\n{entry.verdict}" if entry.verdict else short(entry.name, ROW)
        for entry in panel.effects
    ]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(panel.x_label)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x")


def _floats(values: tuple[float | None, ...]) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _labelled(name: str) -> str:
    """Matplotlib hides legend entries that begin with an underscore."""
    return f"\u200b{short(name, LONGEST)}" if name.startswith("_") else short(name, LONGEST)
