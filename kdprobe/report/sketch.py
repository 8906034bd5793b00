"""How does a figure look where no script runs?  A few lines of SVG in the page's own colours.

It stands in the place of the interactive figure until that is drawn, and stays where none is.
Styles are in `figures.css`; its colours follow the theme. Everything is in pixels.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from markupsafe import Markup

from kdprobe.panels import Effect, Forest, Heatmap, Lines, Panel, Surface
from kdprobe.report.colours import Colours
from kdprobe.report.sketch_axes import WIDTH, Scale, frame, px, scale, short, text, wide
from kdprobe.report.sketch_lines import lines
from kdprobe.report.sketch_maps import FINE, heatmap, surface

NAME = 30  # letters of a row's name
INKS = ("supported", "contradicted", "undecided", "not-applicable")  # else plain


def sketch(
    panel: Panel, colours: Colours, height: int, width: int = WIDTH, fine: int = FINE
) -> Markup:
    """The panel as SVG of `width` by `height` pixels; empty for a kind that is no figure.

    A surface has `fine` cells along its longer side.
    """
    drawers: dict[type, Callable[[Any, Colours, int, int], str]] = {
        Lines: lines,
        Heatmap: heatmap,
        Surface: partial(surface, fine=fine),
        Forest: forest,
    }
    draw = drawers.get(type(panel))
    if draw is None:
        return Markup("")
    body = draw(panel, colours, height, width)
    # all text in it is escaped where it is set
    return Markup(f'<svg class="sketch" viewBox="0 0 {width} {height}">{body}</svg>')


def forest(panel: Forest, colours: Colours, height: int, width: int = WIDTH) -> str:
    """Effects with their intervals against the line of no effect."""
    names = [short(row_name(effect), NAME) for effect in panel.effects]
    ends = [v for e in panel.effects for v in (e.low, e.value, e.high)]
    x = scale([0.0, *ends], 14 + wide(names), width - 10)
    y = Scale(0, max(len(names), 1), 8, height - 40)
    rows = "".join(_row(effect, x, y(i + 0.5)) for i, effect in enumerate(panel.effects))
    beside = "".join(text(x.start - 8, y(i + 0.5) + 4, name) for i, name in enumerate(names))
    zero = f'<path class="z" d="M{px(x(0.0))} {px(y.start)}V{px(y.end)}"/>'
    axes = frame(x, Scale(0, 1, y.end, y.start), panel.x_label, "", grid=False)
    return f'{axes}{zero}<g class="l">{rows}</g><g class="e">{beside}</g>'


def row_name(effect: Effect) -> str:
    """The name of a row, with its verdict where it has one."""
    return f"{effect.name} ({effect.verdict})" if effect.verdict else effect.name


def ink_of(effect: Effect) -> str:
    """The CSS variable of a verdict's colour."""
    name = effect.verdict.replace(" ", "-")
    return f"var(--{name if name in INKS else 'plain'})"


def _row(effect: Effect, x: Scale, y: float) -> str:
    if effect.value is None:
        return ""
    bar = ""
    if effect.low is not None and effect.high is not None:
        bar = f"M{px(x(effect.low))} {px(y)}H{px(x(effect.high))}"
    mark = f"M{px(x(effect.value))} {px(y - 5)}l5 5-5 5-5-5z"
    ink = ink_of(effect)
    return f'<path stroke="{ink}" fill="{ink}" d="{bar}{mark}"/>'
