"""How do curves look in a small drawing?  Lines with bands, dots and a legend, as SVG."""

from collections.abc import Sequence

import numpy as np

from kdprobe.panels import Lines, Series
from kdprobe.report.colours import Colours, first_dash
from kdprobe.report.sketch_axes import (
    LETTER,
    WIDTH,
    Scale,
    frame,
    px,
    scale,
    short,
    text,
    told,
    wide,
)

DASHES = ("", "7 3", "2 3", "7 3 2 3")
CURVE, NEAR = 40, 0.4  # points that a line keeps, pixels that it may leave its way


def lines(panel: Lines, colours: Colours, height: int, width: int = WIDTH) -> str:
    names = [short(series.name, 30) for series in panel.series]
    legend, rows = _legend(names, width)
    ys = [v for s in panel.series for side in (s.y, s.low, s.high) for v in side]
    y = scale(ys, height - 40, 10 + 15 * rows, log=panel.log_y)
    left = 26 + wide([told(value) for value in y.ticks(6)])
    x = scale([v for s in panel.series for v in s.x], left, width - 8)
    bands, lines, seen = [], [], dict[str, int]()
    for place, series in enumerate(panel.series):
        name = colours.of(series.role, series.name, place)
        style = seen[name] = seen.get(name, first_dash(series.role) - 1) + 1
        dash = f' stroke-dasharray="{DASHES[style % 4]}"' if style % 4 else ""
        bands.append(_band(series, x, y, name))
        key, place_of = legend[place], f' stroke="var(--{name})"'
        lines.append(
            f'<path{place_of}{dash} d="{_curve(series.x, series.y, x, y)}M{key[0]} {key[1]}h18"/>'
            + _dots(series, x, y, place_of)
        )
    words = "".join(
        text(at[0] + 23, at[1] + 4, name) for name, at in zip(names, legend, strict=True)
    )
    axes = frame(x, y, panel.x_label, panel.y_label, names=panel.x_names)
    return f'{axes}{"".join(bands)}<g class="l">{"".join(lines)}</g><g>{words}</g>'


def _legend(names: Sequence[str], width: int) -> tuple[list[tuple[int, int]], int]:
    """Where the line of every name begins, and the number of rows."""
    places, at, row = [], 4, 0
    for name in names:
        size = int(34 + LETTER * len(name))
        if at > 4 and at + size > width:
            at, row = 4, row + 1
        places.append((at, 8 + 15 * row))
        at += size
    return places, row + 1 if names else 0


def _curve(xs: Sequence[float], ys: Sequence[float | None], x: Scale, y: Scale) -> str:
    """A path through the known points, broken where one is missing."""
    parts, run = [], list[tuple[float, float]]()
    for at, value in [*zip(xs, ys, strict=True), (0.0, None)]:
        if value is not None and not (y.log and value <= 0):
            run.append((x(at), y(value)))
        elif run:
            parts.append("M" + "L".join(f"{px(a)} {px(b)}" for a, b in thinned(run)))
            run = []
    return "".join(parts)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those that lie on the way between others, where there are many.

    Source: Ramer 1972; Douglas and Peucker 1973.
    """
    if len(points) <= CURVE:
        return list(points)
    way, kept, waiting = np.asarray(points), {0, len(points) - 1}, [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        step = way[last] - way[first]
        off = way[first + 1 : last] - way[first]
        size = np.abs(off[:, 0] * step[1] - off[:, 1] * step[0]) / (np.hypot(*step) or 1.0)
        if len(size) and size.max() > NEAR:
            far = first + 1 + int(size.argmax())
            kept.add(far)
            waiting += [(first, far), (far, last)]
    return [points[place] for place in sorted(kept)]


def _dots(series: Series, x: Scale, y: Scale, ink: str) -> str:
    """A point at each value, where there are few."""
    known = [(a, b) for a, b in zip(series.x, series.y, strict=True) if b is not None]
    known = [(a, b) for a, b in known if not (y.log and b <= 0)]
    if not known or len(known) > CURVE:
        return ""
    dots = "".join(f"M{px(x(a))} {px(y(b))}h0" for a, b in known)
    return f'<path class="d"{ink} d="{dots}"/>'


def _band(series: Series, x: Scale, y: Scale, name: str) -> str:
    if not (series.low and series.high):
        return ""
    edges = zip(series.x, series.low, series.high, strict=True)
    known = [(a, b, c) for a, b, c in edges if b is not None and c is not None]
    if y.log:
        known = [(a, max(b, y.low), max(c, y.low)) for a, b, c in known]
    up = thinned([(x(a), y(b)) for a, b, _ in known])
    down = thinned([(x(a), y(c)) for a, _, c in reversed(known)])
    way = "L".join(f"{px(a)} {px(b)}" for a, b in up + down)
    return f'<path fill="var(--{name}-band)" d="M{way}z"/>' if way else ""
