"""The specimen with names that try to get out of the text they stand in."""

import json
from collections.abc import Mapping
from typing import Any

from specimen import specimen

from kdprobe.results import Results

NAMES = {
    "kd-seed0": "<script>alert(1)</script>",
    "demo": '#panic("x")',
    "feature-seed0": "</script><!--<script>",
    "stage2": "{{ 7*7 }} $x^2$ #",
    "photodigits": '"><img src=x onerror=alert(1)>',
    "kd": "__init__ *b* @see <lab>",
}


LONG = {name: f"{name} {name}-" + 9_980 * "x" for name in NAMES}


def hostile() -> Results:
    """The specimen, renamed."""
    return renamed(NAMES)


def renamed(names: Mapping[str, str]) -> Results:
    """The specimen under other names."""
    return Results.model_validate(_renamed(json.loads(specimen().to_json()), names))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    return value
