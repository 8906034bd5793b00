"""The specimen with names that try to get out of the text they stand in."""

import json
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


def hostile() -> Results:
    """The specimen, renamed."""
    return Results.model_validate(_renamed(json.loads(specimen().to_json())))


def _renamed(value: Any) -> Any:
    if isinstance(value, str):
        return NAMES.get(value, value)
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if isinstance(value, dict):
        return {NAMES.get(key, key): _renamed(item) for key, item in value.items()}
    return value
