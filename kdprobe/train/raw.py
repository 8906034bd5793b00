"""What stands in a recipe that is not checked yet?  Values at dotted paths, and their faults."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """One line of a RecipeError."""

    key: str  # dotted path
    text: str  # found, wanted


def at(raw: Raw, key: str, kind: type) -> Any:
    """The value at a dotted path, or None when it is missing or of another kind."""
    value: Any = raw
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def arms_in(raw: Raw) -> dict[str, Any]:
    arms: dict[str, Any] = at(raw, "arms", dict) or {}
    return arms


def listed_faults(raw: Raw, key: str, faults: Callable[[str], Iterator[str]]) -> Iterator[Fault]:
    """Of a list of calls such as ``["flip", "crop(pad=4)"]``."""
    for text in at(raw, key, list) or []:
        if isinstance(text, str):
            yield from (Fault(key, told) for told in faults(text))


def listed(names: Iterable[str]) -> str:
    return ", ".join(names)
