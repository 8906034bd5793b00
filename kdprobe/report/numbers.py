"""How is a number written for a reader?  Few digits, a true minus, a sign where it matters."""

from collections.abc import Iterable
from math import floor, log10
from typing import Protocol

from kdprobe.results import Verdict

MINUS = "−"
UNKNOWN = "–"
GROUPED_FROM = 10_000
MOST_DECIMALS = 6


class Spanned(Protocol):
    """Something that was estimated, with its 95% interval."""

    @property
    def effect(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def number(value: float | int | None) -> str:
    """Up to four significant digits; whole numbers in full, in groups of three."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        whole = int(value)
        text = f"{whole:,}".replace(",", "\u202f") if abs(whole) >= GROUPED_FROM else str(whole)
    else:
        text = f"{value:.4g}"
    return text.replace("-", MINUS)


def interval(estimate: Spanned) -> str:
    """An effect and its 95% interval, ``+4.1 [+2.0, +6.2]``: decimals as its width asks."""
    if estimate.effect is None:
        return UNKNOWN
    if estimate.low is None or estimate.high is None:
        return _signed(estimate.effect, _decimals(estimate.effect))
    decimals = _decimals((estimate.high - estimate.low) / 2 or estimate.effect)
    value, low, high = (
        _signed(end, decimals) for end in (estimate.effect, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def _decimals(size: float) -> int:
    """How many decimals show two significant digits of `size`."""
    return max(1 - floor(log10(abs(size))), 0) if size else 1


def _signed(value: float, decimals: int) -> str:
    if decimals > MOST_DECIMALS:
        return f"{value:+.2g}".replace("-", MINUS)
    rounded = round(value, decimals)
    return f"{rounded:+.{decimals}f}".replace("-", MINUS) if rounded else f"{0:.{decimals}f}"


def percent(share: float | None) -> str:
    """A share in percent, to one decimal."""
    return UNKNOWN if share is None else f"{100 * share:.1f}%"


def scales(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """For each quantity the reach of all its intervals: one drawing scale, symmetric about zero."""
    reach: dict[str, float] = {}
    for entry in (estimate for verdict in verdicts for estimate in verdict.estimates):
        sizes = [abs(end) for end in (entry.low, entry.effect, entry.high) if end is not None]
        reach[entry.quantity] = max(reach.get(entry.quantity, 0.0), *sizes, 0.0)
    return {quantity: size * 1.08 or 1.0 for quantity, size in reach.items()}
