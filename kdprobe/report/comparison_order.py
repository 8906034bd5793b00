"""Which differences are told first?  The decided ones, those of leading quantities, the surest.

The surest is that of the least p-value (adjusted), and among equal ones that which is furthest from
zero in half-widths of its interval. Where all seeds agree the interval has no width: its p-value,
that of a permutation, is what says how sure that is.
"""

from math import inf

from kdprobe.comparing.record import Comparison, Difference
from kdprobe.report.numbers import interval

DECIDED = ("better", "worse", "higher", "lower")


def strongest(comparison: Comparison) -> list[Difference]:
    """The decided differences in the order in which they are told."""
    leading = {entry.name: entry.leading for entry in comparison.quantities}
    decided = [d for d in comparison.differences if d.outcome in DECIDED]
    return sorted(decided, key=lambda d: (not leading[d.quantity], d.p_value or 0.0, -strength(d)))


def gap_text(difference: Difference) -> str:
    """The effect with its interval; a plain 0 where every seed has the same number."""
    return "0" if difference.outcome == "equal" else interval(difference)


def strength(difference: Difference) -> float:
    """How many half-widths of its interval an effect is from zero; none without an interval."""
    if difference.low is None or difference.high is None or difference.effect == 0:
        return 0.0
    width = difference.high - difference.low
    return 2 * abs(difference.effect) / width if width > 0 else inf
