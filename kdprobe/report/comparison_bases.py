"""What does the page show against a baseline?  Everything that changes with it, for each of them.

`compare.js` and `compare_effects.js` only pick among what stands here.
"""

from typing import Any

from kdprobe.comparing.comparison import against
from kdprobe.comparing.record import Comparison
from kdprobe.report.comparison_effects import axes, marks
from kdprobe.report.comparison_order import gap_text, strongest
from kdprobe.report.comparison_rows import SIGNS, centres, key_of
from kdprobe.stats import FEWEST_SEEDS

MOST_GAPS = 20_000  # differences in one page; with more only those against one baseline


def data(comparison: Comparison) -> dict[str, Any]:
    """What the scripts need for every baseline that may be chosen."""
    sides = [side.name for side in comparison.sides]
    room = len(comparison.rows) * len(sides) * (len(sides) - 1) <= MOST_GAPS
    turned = {
        place: comparison if base == comparison.baseline else against(comparison, base)
        for place, base in enumerate(sides)
        if room or base == comparison.baseline
    }
    return {
        "sides": sides,
        "baseline": sides.index(comparison.baseline),
        "signs": SIGNS,
        "centres": centres(comparison),
        "gaps": {place: _gaps(of) for place, of in turned.items()},
        "effects": {place: _effects(of) for place, of in turned.items()},
        "changed": {place: changed(of) for place, of in turned.items()},
        "notes": {place: [none_decided(of), what_changed(of)] for place, of in turned.items()},
    }


def none_decided(comparison: Comparison) -> str:
    """What is said where no difference is decided: why, if the reason is plain."""
    if not comparison.differences:
        return "No difference: the baseline has no number where another side has one."
    if max(d.seeds for d in comparison.differences) < FEWEST_SEEDS:
        return "No difference is decided: fewer than three seeds on a side decide nothing."
    return "No difference is decided."


def what_changed(comparison: Comparison) -> str:
    """How many verdicts are not the baseline's, for a reader of the page."""
    base = [side.name for side in comparison.sides].index(comparison.baseline)
    if all(entry.outcomes[base] is None for entry in comparison.verdicts):
        return "The baseline itself is not judged, so no row is marked as changed."
    count = len(changed(comparison))
    if not count:
        return "No side is judged otherwise than the baseline."
    rows = "1 row" if count == 1 else f"{count} rows"
    return f"Marked: {rows} in which some side is judged otherwise than the baseline."


def changed(comparison: Comparison) -> list[int]:
    """The places of the verdicts that are not alike on all sides."""
    return [place for place, entry in enumerate(comparison.verdicts) if entry.changed]


def _gaps(comparison: Comparison) -> list[list[Any]]:
    """(row, side, text, change, its place among the decided or null) of every difference."""
    row, side = places(comparison)
    order = {(*key_of(d.quantity, d.at), d.side): i for i, d in enumerate(strongest(comparison))}
    return [
        [row[key_of(d.quantity, d.at)], side[d.side], gap_text(d), d.outcome]
        + [order.get((*key_of(d.quantity, d.at), d.side))]
        for d in comparison.differences
    ]


def _effects(comparison: Comparison) -> dict[str, Any]:
    """``axes`` as (zero, least, its text, greatest, its text); ``marks`` by row and side."""
    row, side = places(comparison)
    return {
        "axes": {
            quantity: [axis.zero, *axis.least, *axis.greatest]
            for quantity, axis in axes(comparison).items()
        },
        "marks": [
            [row[key_of(d.quantity, d.at)], side[d.side], mark.low, mark.effect, mark.high]
            for d, mark in marks(comparison)
        ],
    }


def places(
    comparison: Comparison,
) -> tuple[dict[tuple[str, tuple[tuple[str, str], ...]], int], dict[str, int]]:
    """The number of every row and of every side."""
    rows = {key_of(row.quantity, row.at): place for place, row in enumerate(comparison.rows)}
    return rows, {side.name: place for place, side in enumerate(comparison.sides)}
