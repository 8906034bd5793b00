"""How do matrices and surfaces look in a small drawing?  Blocks of nine tones, as SVG."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdprobe.panels import Heatmap, Surface, Track
from kdprobe.report.colours import Colours
from kdprobe.report.numbers import MINUS
from kdprobe.report.sketch_axes import WIDTH, Scale, frame, px, short, text, told, wide

TONES = 9  # of the heat scale: .h0 to .h8
DARK = 5  # tones from here on bear light text
CELLS, ROOM = 100, 25  # more of them, or narrower ones in pixels, are not written into
FINE = 30  # cells of a drawn surface along its longer side


def _tone(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.int_]:
    """0 to TONES - 1; -1 where there is no value."""
    share = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(share) * (TONES - 1)), -1).astype(
        int
    )


def _grid(values: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    rows = [[np.nan if v is None else v for v in row] for row in values]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def _blocks(tones: NDArray[np.int_], x: Scale, y: Scale) -> str:
    """Cells of one tone as one path, runs of a row joined; edge i is at ``x(i)`` and ``y(i)``."""
    paths: dict[int, list[str]] = {}
    for row, line in enumerate(tones):
        ends = [*np.flatnonzero(np.diff(line)) + 1, len(line)]
        top, bottom = round(y(row)), round(y(row + 1))
        for first, last in zip([0, *ends], ends, strict=False):
            left, right = round(x(first)), round(x(last))
            if last > first and line[first] >= 0:
                block = f"M{left} {top}H{right}V{bottom}H{left}z"
                paths.setdefault(int(line[first]), []).append(block)
    return "".join(f'<path class="h{k}" d="{"".join(paths[k])}"/>' for k in sorted(paths))


def _bar(low: float, high: float, top: float, bottom: float, right: int, label: str) -> str:
    """The colour scale at the right edge, with the values of its ends."""
    at = right - 58
    edges = Scale(0, 1, at, at + 9), Scale(0, TONES, bottom, top)
    blocks = _blocks(np.arange(TONES)[:, None], *edges)
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 {right - 4} {px(middle)})"'
    name = text(right - 4, middle, short(label, 30), f'{turned} class="t"') if label else ""
    ends = text(at + 13, top + 9, told(high)) + text(at + 13, bottom, told(low))
    return f'{blocks}<g class="n">{ends}</g><g class="m">{name}</g>'


def heatmap(panel: Heatmap, colours: Colours, height: int, width: int = WIDTH) -> str:
    values = _grid(panel.values)
    low, high = panel.span
    rows = [short(name, 20) for name in panel.rows]
    left = 24 + wide(rows)
    across = (width - 74 - left) / max(len(panel.columns), 1)
    turned = wide([short(name, 20) for name in panel.columns]) > across - 5
    below = min(20 + wide([short(name, 20) for name in panel.columns]) * 0.7, 110) if turned else 20
    x = Scale(0, max(len(panel.columns), 1), left, width - 74)
    y = Scale(0, max(len(rows), 1), 6, height - below - 20)
    tones = _tone(values, low, high)
    labels = _column_names(panel.columns, x, y.end, turned=turned)
    beside = "".join(text(left - 5, y(i + 0.5) + 4, name) for i, name in enumerate(rows))
    middle = px((y.start + y.end) / 2)
    side = f' transform="rotate(-90 11 {middle})"'
    axes = text((x.start + x.end) / 2, height - 6, panel.column_label, ' class="q"')
    axes += text(11, (y.start + y.end) / 2, short(panel.row_label, 40), f'{side} class="q"')
    written = _written(values, tones, x, y) if values.size <= CELLS and across >= ROOM else ""
    return (
        f'{_blocks(tones, x, y)}<g class="c">{written}{axes}</g>{labels}'
        f'<g class="e">{beside}</g>{_bar(low, high, y.start, y.end, width, "")}'
    )


def _column_names(names: Sequence[str], x: Scale, bottom: float, *, turned: bool) -> str:
    if not turned:
        found = (text(x(i + 0.5), bottom + 15, name) for i, name in enumerate(names))
        return f'<g class="c">{"".join(found)}</g>'
    step = max(1, -(-len(names) * 13 // max(int(x.end - x.start), 1)))  # a name takes 13 pixels
    found = (
        text(x(i + 0.5), bottom + 12, short(names[i], 20), _turn(x(i + 0.5), bottom + 12))
        for i in range(0, len(names), step)
    )
    return f'<g class="e">{"".join(found)}</g>'


def _turn(x: float, y: float) -> str:
    return f' transform="rotate(-40 {px(x)} {px(y)})"'


def _written(values: NDArray[np.float64], tones: NDArray[np.int_], x: Scale, y: Scale) -> str:
    """The value of each cell, light on dark."""
    form = ".2f" if (np.abs(values[np.isfinite(values)]) < 10).all() else ".3g"
    found: tuple[list[str], list[str]] = ([], [])
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            at = x(column + 0.5), y(row + 0.5) + 4
            label = format(value, form).replace("-", MINUS)
            found[int(tones[row, column] >= DARK)].append(text(*at, label))
    return f'<g class="a">{"".join(found[0])}</g><g class="b">{"".join(found[1])}</g>'


def surface(
    panel: Surface, colours: Colours, height: int, width: int = WIDTH, fine: int = FINE
) -> str:
    """Tones of the height over the plane, and the ways of trainings on it."""
    z = finer(_grid(panel.z), fine)
    known = z[np.isfinite(z)]
    low, high = float(known.min(initial=np.inf)), float(known.max(initial=-np.inf))
    if not len(known):
        low, high = 0.0, 1.0
    x = Scale(min(panel.x), max(panel.x), 62, width - 74)
    y = Scale(min(panel.y), max(panel.y), height - 40, 8)
    cells = (
        Scale(0, z.shape[1], x.start, x.end),
        Scale(0, z.shape[0], y.start, y.end),
    )
    blocks = _blocks(_tone(z, low, high), *cells)
    tracks = "".join(_track(track, colours, i, x, y) for i, track in enumerate(panel.tracks))
    axes = frame(x, y, panel.x_label, panel.y_label)
    bar = _bar(low, high, y.start, y.end, width, panel.z_label)
    return f"{axes}{blocks}{tracks}{bar}"


def finer(z: NDArray[np.float64], fine: int = FINE) -> NDArray[np.float64]:
    """Values at the middles of about `fine` cells a side, between those at the nodes of `z` (y, x).

    NaN wherever a neighbouring node is not known.
    """
    for axis in (0, 1):
        nodes = z.shape[axis]
        cells = max(fine, nodes) if nodes > 1 else 1
        at = (np.arange(cells) + 0.5) / cells * (nodes - 1)
        below = np.minimum(np.floor(at).astype(int), max(nodes - 2, 0))
        share = (at - below).reshape((-1, 1) if axis == 0 else (1, -1))
        above = np.minimum(below + 1, nodes - 1)
        z = z.take(below, axis) * (1 - share) + z.take(above, axis) * share
    return z


def _track(track: Track, colours: Colours, place: int, x: Scale, y: Scale) -> str:
    """A way over the plane, its name at the end."""
    ink = f'stroke="var(--{colours.of(track.role, track.name, place)})"'
    points = [(x(a), y(b)) for a, b in zip(track.x, track.y, strict=True)]
    if not points:
        return ""
    way = "L".join(f"{px(a)} {px(b)}" for a, b in points)
    dots = "".join(f"M{px(a)} {px(b)}h0" for a, b in points)
    end = min(points[-1][0] + 5, x.end - wide([short(track.name, 20)]))
    name = text(end, points[-1][1] - 6, short(track.name, 20), ' class="o"')
    return f'<g class="l" {ink}><path d="M{way}"/><path class="d" d="{dots}"/></g>{name}'
