"""How is a page filled?  By one way for every page: all text escaped, nothing loaded.

A page's policy forbids every load; the scripts that may run are named in it by their digest.
"""

import base64
import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from kdprobe.panels import Cell
from kdprobe.report.colours import ICONS
from kdprobe.report.document import describe
from kdprobe.report.numbers import interval, number, percent
from kdprobe.report.themes import css

LONG_TABLE = 14  # rows; a longer table starts folded


@lru_cache
def source(name: str) -> str:
    """The text of the template, style or script called `name`."""
    return files("kdprobe.report").joinpath("templates", name).read_text(encoding="utf-8")


def environment() -> Environment:
    """What fills templates, with the words that all pages share; a page adds its own."""
    made = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "cell": _cell,
        "number": number,
        "percent": percent,
        "interval": interval,
        "describe": describe,
        "script_json": script_json,
    }
    made.globals |= {"icons": ICONS, "long_table": LONG_TABLE}
    return made


def frame(
    styles: tuple[str, ...], scripts: tuple[str, ...], *run_by_them: str
) -> dict[str, str | list[Markup]]:
    """The style, scripts and policy of a page, from the names of its files; all of it is our own.

    Args:
        run_by_them: texts of scripts that these scripts start.
    """
    texts = [source(f"{name}.js") for name in scripts]
    return {
        "style": Markup(css() + "".join(source(f"{name}.css") for name in styles)),
        "scripts": [Markup(text) for text in texts],
        "policy": _policy(*texts, *run_by_them),
    }


def script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # no sign of markup is left in it


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy that runs `scripts`, shows embedded pictures, and loads nothing."""
    named = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {named}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _cell(value: Cell) -> str:
    return value if isinstance(value, str) else number(value)
