"""How does the report become one page?  One file, everything inside, nothing loaded.

The page's policy forbids every load; the two scripts that may run are named in it by their digest.
"""

import base64
import gzip
import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from kdprobe.panels import Cell, Panel, Table
from kdprobe.report.colours import ICONS, Colours
from kdprobe.report.document import chapters, describe
from kdprobe.report.headline import headline, key_estimate
from kdprobe.report.interactive import figure, plotly_source
from kdprobe.report.numbers import interval, number, percent, points, scales
from kdprobe.report.overlays import AGAINST, FOR, layers, most_layers
from kdprobe.report.pictures import heat_colour, most_tiles, tiles
from kdprobe.results import Results

LONG_TABLE = 14  # rows; a longer table starts folded
SLIM_COLUMNS, SLIM_TEXT = 4, 22  # columns, letters
STRIPES = 9  # colours in the legend of the entropy maps


def page(results: Results) -> str:
    """The whole report as one HTML document."""
    style, script = _template("page.css"), _template("page.js")
    plotly = plotly_source()
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            chapters=chapters(results),
            headline=headline(results),
            plots=_Plots(Colours(results)),
            style=Markup(style),
            script=Markup(script),
            plotly=Markup(_packed(plotly)),
            policy=policy(script, plotly),
            heat=", ".join(f"rgb{heat_colour(step / (STRIPES - 1))}" for step in range(STRIPES)),
        )
    )


def policy(*scripts: str) -> str:
    """A Content-Security-Policy that runs `scripts`, shows embedded pictures, and loads nothing."""
    named = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {named}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # no sign of markup is left in it


class _Plots:
    """Gives each figure of the page its number."""

    def __init__(self, colours: Colours) -> None:
        self._colours = colours
        self._count = 0

    def data(self, panel: Panel) -> dict[str, Any] | None:
        """The figure of `panel`, if it is one that plotly draws."""
        return figure(panel, self._colours)

    def colour(self, role: str, name: str) -> str:
        """The CSS variable of a network's colour."""
        return f"var(--{self._colours.of(role, name)})"

    def next_id(self) -> str:
        """The id of the next figure."""
        self._count += 1
        return f"plot-{self._count}"


def _environment() -> Environment:
    names = ("page.html.j2", "verdicts.html.j2", "panels.html.j2")
    environment = Environment(
        loader=DictLoader({name: _template(name) for name in names}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": _cell,
        "number": number,
        "percent": percent,
        "points": points,
        "interval": interval,
        "script_json": script_json,
        "describe": describe,
        "tiles": tiles,
        "layers": layers,
    }
    environment.globals |= {
        "icons": ICONS,
        "key_estimate": key_estimate,
        "scales": scales,
        "is_slim": _is_slim,
        "long_table": LONG_TABLE,
        "most_tiles": most_tiles,
        "most_layers": most_layers,
        "signs": tuple(f"rgb{colour}" for colour in (AGAINST, FOR)),
    }
    return environment


def _is_slim(table: Table) -> bool:
    """Whether half the page's width is enough; a folded table stands alone."""
    if len(table.rows) > LONG_TABLE:
        return False
    texts = [cell for row in table.rows for cell in row if isinstance(cell, str)]
    return len(table.columns) <= SLIM_COLUMNS and max(map(len, texts), default=0) <= SLIM_TEXT


def _cell(value: Cell) -> str:
    return value if isinstance(value, str) else number(value)


@lru_cache
def _template(name: str) -> str:
    return files("kdprobe.report").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode("utf-8"), 9, mtime=0)).decode("ascii")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
