"""Is a setting of the kind that its default is?"""

from typing import Any

import numpy as np

from kdprobe.errors import UsageError


def must_be_like(name: str, value: Any, default: Any) -> None:
    """Raise UsageError when `value` is not of the kind of the setting's `default`."""
    if not _like(value, default):
        raise UsageError(f"setting {name} is {value!r}; wanted {_kind(default)}")


def _like(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        several = isinstance(value, (list, tuple)) and len(value) > 0
        return several and all(_like(item, default[0]) for item in value)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and bool(np.isfinite(value))
    return type(value) is type(default) and (not isinstance(value, int) or value > 0)


def _kind(default: Any) -> str:
    if isinstance(default, tuple):
        return f"a list, such as {list(default)}"
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, float):
        return f"a finite number, such as {default:g}"
    if isinstance(default, int):
        return f"a whole number of at least 1, such as {default}"
    return f"something like {default!r}"
