"""How does a figure look on paper?  The page's sketch, with the tones of the day written into it.

A sketch costs a millisecond. It names colours as CSS variables and leaves its style to
`figures.css`; outside a browser neither is known, so both are put in here.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from kdprobe.panels import Forest, Heatmap, Lines, Panel, Surface, Viewer
from kdprobe.report.colours import PRINT, Colours
from kdprobe.report.sketch import sketch
from kdprobe.report.themes import BAND, LIGHT
from kdprobe.report.viewer import stills

WIDTH = 350  # pixels; half of the text's width on paper
LETTERS = "DejaVu Sans"
SIZE = 10  # pixels of its letters, as wide as the sketch takes them to be
TONES = {**LIGHT, **{f"{name}-band": f"{PRINT[name]}{BAND}" for name in PRINT}}
HEAT = [LIGHT[f"heat-{place}"] for place in range(5)]
FINE = 120  # cells of a surface along its longer side
LEGEND = 56  # letters that a row of a legend holds, about
TALLEST = 900  # pixels
ROWS = 42  # of a forest plot; a longer one goes on in another


def on_paper(panels: Iterable[Panel]) -> list[Panel]:
    """The panels, with still galleries in place of viewers and long forest plots in parts."""
    return [part for panel in panels for part in _parts(panel)]


def _parts(panel: Panel) -> Sequence[Panel]:
    if isinstance(panel, Viewer):
        return stills(panel)
    if isinstance(panel, Forest):
        parts = (panel.effects[at : at + ROWS] for at in range(0, len(panel.effects), ROWS))
        return [
            panel.model_copy(update={"effects": part, "title": _continued(panel.title, place)})
            for place, part in enumerate(parts)
        ] or [panel]
    return [panel]


def _continued(title: str, place: int) -> str:
    return f"{title} (continued)" if place else title


def printed(panel: Panel, colours: Colours, width: int = WIDTH) -> str:
    """The panel as SVG that stands alone, or "" for a kind that is no figure."""
    height = _height(panel)
    drawn = str(sketch(panel, colours, height, width, FINE))
    if not drawn:
        return ""
    inked = re.sub(r"var\(--([a-z0-9-]+)\)", _tone, drawn)
    dotted = re.sub(r'(?<=\d)h0(?=[M"])', "h.01", inked)  # typst drops a line of no length
    start, end = dotted.split(">", 1)
    size = f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    return f"{start}{size}><style>{STYLE}</style>{end}"


def _tone(found: re.Match[str]) -> str:
    return TONES.get(found[1], found[0])  # a name may look like a colour


def _height(panel: Panel) -> int:
    if isinstance(panel, Heatmap):
        names = max(map(len, panel.columns), default=0)
        return min(70 + 3 * min(names, 20) + 24 * len(panel.rows), TALLEST)
    if isinstance(panel, Forest):
        return 56 + 20 * len(panel.effects)
    if isinstance(panel, Lines):
        letters = sum(len(series.name) + 6 for series in panel.series)
        return 200 + 15 * min(letters // LEGEND, 12)
    return 250 if isinstance(panel, Surface) else 0


def _between(one: str, other: str) -> str:
    """The tone half way from one to another, both as ``#rrggbb``."""
    pairs = zip(bytes.fromhex(one[1:]), bytes.fromhex(other[1:]), strict=True)
    return f"#{bytes((a + b + 1) // 2 for a, b in pairs).hex()}"


def _style() -> str:
    ink, muted, rule, card = (LIGHT[name] for name in ("ink", "muted", "rule", "card"))
    tones = [HEAT[0]]
    for one, other in pairwise(HEAT):
        tones += [_between(one, other), other]
    heat = "".join(f".h{place}{{fill:{tone}}}" for place, tone in enumerate(tones))
    return (
        f"text{{font-family:{LETTERS},Verdana,sans-serif;font-size:{SIZE}px;fill:{ink}}}"
        f".r{{stroke:{rule}}}.z{{stroke:{muted};stroke-dasharray:4 3}}"
        ".l{fill:none;stroke-width:1.8;stroke-linejoin:round}"
        ".d{stroke-width:4.5;stroke-linecap:round;stroke-dasharray:none}"
        f".m text,.q,.t{{text-anchor:middle;fill:{muted}}}.c,.a,.b{{text-anchor:middle}}"
        f".e{{text-anchor:end}}.b text{{fill:{card}}}"
        f".o{{paint-order:stroke;stroke:{card};stroke-width:3px;font-weight:bold}}{heat}"
    )


STYLE = _style()
