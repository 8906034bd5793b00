"""Where do effects stand on the axis of their figure?  For one baseline, in percent of its width.

All effects of a quantity share one axis, which holds zero and every end of an interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kdprobe.comparing.record import Comparison, Difference
from kdprobe.report.numbers import MINUS

NEAR = 12.0  # percent between two texts of an axis
MARGIN = 3.0  # percent of the axis beyond its outermost mark


@dataclass(frozen=True)
class Mark:
    """An effect and the ends of its interval, where it has one."""

    low: float | None
    effect: float
    high: float | None


@dataclass(frozen=True)
class Axis:
    """Where zero is, and the least and the greatest number: places and texts.

    An end so near to zero that both would be written over each other has no text.
    """

    zero: float
    least: tuple[float, str]
    greatest: tuple[float, str]


def axes(comparison: Comparison) -> dict[str, Axis]:
    """The axis of every leading quantity that has a difference."""
    return {quantity: _axis(ends) for quantity, ends in _ends(comparison).items()}


def _axis(ends: tuple[float, float]) -> Axis:
    zero = _on(ends, 0.0)
    least, greatest = (
        (_on(ends, end), _short(end) if abs(_on(ends, end) - zero) >= NEAR else "") for end in ends
    )
    return Axis(zero, least, greatest)


def marks(comparison: Comparison) -> list[tuple[Difference, Mark]]:
    """Every difference of a leading quantity, and where it stands."""
    ends = _ends(comparison)
    return [
        (
            d,
            Mark(
                low=None if d.low is None else _on(ends[d.quantity], d.low),
                effect=_on(ends[d.quantity], d.effect),
                high=None if d.high is None else _on(ends[d.quantity], d.high),
            ),
        )
        for d in comparison.differences
        if d.quantity in ends
    ]


def _ends(comparison: Comparison) -> dict[str, tuple[float, float]]:
    leading = {entry.name for entry in comparison.quantities if entry.leading}
    found: dict[str, list[float]] = {}
    for d in comparison.differences:
        if d.quantity in leading:
            found.setdefault(d.quantity, [0.0]).extend(_numbers(d))
    return {quantity: (min(every), max(every)) for quantity, every in found.items()}


def _numbers(difference: Difference) -> Sequence[float]:
    known = (difference.low, difference.effect, difference.high)
    return [value for value in known if value is not None]


def _short(value: float) -> str:
    return f"{value:+.2g}".replace("-", MINUS)


def _on(ends: tuple[float, float], value: float) -> float:
    low, high = ends
    if high <= low:
        return 50.0
    return round(MARGIN + (100 - 2 * MARGIN) * (value - low) / (high - low), 1)
