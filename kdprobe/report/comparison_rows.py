"""What does the page of a comparison show of every number?  Places on a scale, and short texts.

Nothing here depends on the baseline; what does is in `comparison_bases.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kdprobe.comparing.record import Change, Comparison, Rank, Row, Sample, Side
from kdprobe.report.colours import PRINT
from kdprobe.report.numbers import UNKNOWN, number

SIGNS: dict[Change, str] = {
    "better": "✓",
    "worse": "✕",
    "higher": "↑",
    "lower": "↓",
    "equal": "=",
    "undecided": "?",
}
Key = tuple[str, tuple[tuple[str, str], ...], str]  # quantity, place, side


@dataclass(frozen=True)
class SideLine:
    """One side at one place: what stands in its row of the table."""

    side: int
    mean: str
    spread: str  # standard deviation over runs, or how many there are
    dots: tuple[float, ...]  # of the runs, in percent of the scale
    centre: float  # of their mean
    rank: str


@dataclass(frozen=True)
class Place:
    """One quantity at one place, of every side that has a number there."""

    number: int
    quantity: str
    where: str
    lines: tuple[SideLine, ...]
    scale: tuple[str, str]  # both ends

    @property
    def size(self) -> int:
        """How many sides have a number here."""
        return len(self.lines)


@dataclass(frozen=True)
class Group:
    """All places of one quantity."""

    name: str
    meaning: str
    better: str
    leading: bool
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Subject:
    """All quantities of one metric."""

    key: str
    title: str
    groups: tuple[Group, ...]
    caveats: tuple[str, ...]


def where(at: dict[str, str]) -> str:
    """A place in words: ``kd, logits``; nothing where there is only one."""
    return ", ".join(at.values())


def subjects(comparison: Comparison) -> tuple[Subject, ...]:
    """The metrics in the order of the comparison, with every row of every quantity."""
    ranks = {(*key_of(r.quantity, r.at), r.side): r for r in comparison.ranking}
    groups: dict[str, list[Group]] = {}
    titles: dict[str, str] = {}
    for entry in comparison.quantities:
        places = tuple(
            _place(comparison, number_, row, ranks)
            for number_, row in enumerate(comparison.rows)
            if row.quantity == entry.name
        )
        if places:
            titles[entry.metric] = entry.title
            group = Group(entry.name, entry.meaning, entry.better, entry.leading, places)
            groups.setdefault(entry.metric, []).append(group)
    return tuple(
        Subject(f"metric-{key}", titles[key], tuple(found), _caveats(comparison, key))
        for key, found in groups.items()
    )


def _caveats(comparison: Comparison, metric: str) -> tuple[str, ...]:
    return tuple(
        f"{caveat.subject}: {caveat.what}"
        for caveat in comparison.caveats
        if caveat.subject.startswith(f"{metric}.")
    )


def _place(comparison: Comparison, number_: int, row: Row, ranks: dict[Key, Rank]) -> Place:
    values = [value for sample in row.samples for value in sample.values]
    low, high = min(values), max(values)
    lines = tuple(
        _line(side, sample, (low, high), ranks.get((*key_of(row.quantity, row.at), named.name)))
        for side, (named, sample) in enumerate(zip(comparison.sides, row.samples, strict=True))
        if sample.points
    )
    return Place(number_, row.quantity, where(row.at), lines, (number(low), number(high)))


def _line(side: int, sample: Sample, ends: tuple[float, float], rank: Rank | None) -> SideLine:
    mean, count = sample.mean or 0.0, len(sample.points)
    spread = f"± {_deviation(sample):.2g}" if count > 1 else "1 run"
    dots = tuple(_on_scale(value, ends) for value in sample.values)
    told = _rank(rank) if rank else UNKNOWN
    return SideLine(side, number(mean), spread, dots, _on_scale(mean, ends), told)


def _deviation(sample: Sample) -> float:
    mean = sample.mean or 0.0
    total = sum((value - mean) ** 2 for value in sample.values)
    return float((total / (len(sample.values) - 1)) ** 0.5)


def _on_scale(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return round(100 * (value - low) / (high - low), 1) if high > low else 50.0


def _rank(rank: Rank) -> str:
    """``1 (1 to 2)`` with its interval, or the rank by the means alone."""
    text = number(rank.rank)
    if rank.low is None or rank.high is None:
        return text
    return f"{text} ({rank.low} to {rank.high})"


def tones(sides: Sequence[Side]) -> list[str]:
    """The colour name of every side: by its role, so that an arm looks as in its report."""
    seen: dict[str, int] = {}
    found = []
    for place, side in enumerate(sides):
        role = side.role or ""
        kinds = [tone for tone in PRINT if tone.startswith(role)] if role else list(STUDIES)
        at = seen[role] = seen.get(role, -1) + 1
        found.append(kinds[at % len(kinds)] if kinds else STUDIES[place % len(STUDIES)])
    return found


STUDIES = ("teacher-0", "student-0", "other-0", "control-0", "student-3", "student-2", "baseline-1")


def centres(comparison: Comparison) -> list[list[float | None]]:
    """Where each side's mean stands on the scale of every row, in percent."""
    found = []
    for row in comparison.rows:
        values = [value for sample in row.samples for value in sample.values]
        ends = (min(values), max(values))
        means = [sample.mean for sample in row.samples]
        found.append([None if mean is None else _on_scale(mean, ends) for mean in means])
    return found


def key_of(quantity: str, at: dict[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """What tells one row from another."""
    return quantity, tuple(at.items())
