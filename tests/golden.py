"""What is drawn, as a file that stands beside the tests: a change of it is seen and agreed to.

``KDPROBE_GOLDEN=1 pytest ...`` writes the files anew; look at the difference before you commit it.
"""

import json
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from kdprobe.panels import Bytes

DIGITS = 6  # of numbers: other machines round otherwise


def must_be_as_before(found: Any, file: Path) -> None:
    """Compare with `file`, or write it where that is asked for."""
    told = json.dumps(_plain(found), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    if os.environ.get("KDPROBE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(told, encoding="utf-8")
    assert json.loads(told) == json.loads(file.read_text(encoding="utf-8")), (
        f"{file.name} says otherwise; where the change is meant, renew it by KDPROBE_GOLDEN=1"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Bytes):  # how they are packed is the machine's business
        numbers = value.unpack()
        return {"shape": list(numbers.shape), "mean": float(f"{numbers.mean():.4g}")}
    if isinstance(value, BaseModel):
        return _plain({name: getattr(value, name) for name in type(value).model_fields})
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({one.name: getattr(value, one.name) for one in fields(value)})
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return value
