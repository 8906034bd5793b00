"""Is one side different from another?  Student's t over seeds, Holm over places.

Sides with the same seeds are paired by seed: the effects of the seeds have mean e and standard
error s / sqrt(r), with r - 1 degrees of freedom. Otherwise the difference of the means has Welch's
error sqrt(s1^2 / r1 + s2^2 / r2) and degrees of freedom (Welch 1947). Fewer than three seeds on a
side decide nothing: a difference, no interval. p-values are adjusted (Holm 1979) over all places
and sides of one quantity; intervals are not.

Axes: r seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from kdprobe.comparing.record import Better, Change, Compared, Difference, Row, Sample, Side
from kdprobe.stats import FEWEST_SEEDS, holm, is_rounding, student_t

LEVEL = 0.05
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """An effect and how sure it is."""

    effect: float
    error: float | None = None  # standard error; None with too few seeds
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def gap(ours: Sample, theirs: Sample, *, paired: bool) -> Gap:
    """`ours` minus `theirs`, neither of them empty, with its 95% interval and p-value."""
    if paired:
        pairs = np.stack([_by_seed(ours), _by_seed(theirs)])
        return over_seeds(pairs[0] - pairs[1], pairs)
    one, two = np.array(ours.values), np.array(theirs.values)
    every = np.concatenate([one, two])
    effect = _rounded(float(one.mean() - two.mean()), every)
    if min(len(one), len(two)) < FEWEST_SEEDS:
        return Gap(effect)
    parts = [float(side.var(ddof=1)) / len(side) for side in (one, two)]
    total = sum(parts)
    if is_rounding(total**0.5, every):
        return _alike(effect, 2 / comb(len(one) + len(two), len(one)))
    return student(effect, total**0.5, freedom(parts, (len(one), len(two))))


def freedom(parts: Sequence[float], counts: Sequence[int]) -> float:
    """Degrees of freedom (Welch) of a sum of squared errors, each of a mean of so many numbers."""
    total = sum(parts)
    return 1 / sum(
        (part / total) ** 2 / (count - 1) for part, count in zip(parts, counts, strict=True)
    )


def _rounded(effect: float, of: Array) -> float:
    """The effect; 0 where it is only what rounding makes of equal numbers."""
    return 0.0 if is_rounding(abs(effect), of) else effect


def over_seeds(effects: Array, of: Array) -> Gap:
    """The mean of (r,) effects with Student's interval; `of` are the numbers they come from."""
    effect = _rounded(float(effects.mean()), of)
    if len(effects) < FEWEST_SEEDS:
        return Gap(effect)
    error = float(effects.std(ddof=1)) / len(effects) ** 0.5
    if is_rounding(error, of):
        return _alike(effect, 2.0 ** (1 - len(effects)))
    return student(effect, error, len(effects) - 1)


def student(effect: float, error: float, degrees: float) -> Gap:
    """The interval and p-value of an effect with a standard error above zero."""
    return Gap(effect, error, *student_t(effect, error, degrees))


def _alike(effect: float, least: float) -> Gap:
    """Without any spread p is that of a permutation, and never small with few seeds."""
    return Gap(effect, 0.0, effect, effect, 1.0 if effect == 0 else least)


def seeds_of(sample: Sample) -> frozenset[int] | None:
    """Its seeds, or None where a run has none or two runs share one."""
    seeds = [point.seed for point in sample.points if point.seed is not None]
    whole = len(set(seeds)) == len(sample.points)
    return frozenset(seeds) if whole and seeds else None


def may_pair(one: Side, two: Side) -> bool:
    """Runs of one seed share their chance in one study, and in the same arm of two studies."""
    return one.study == two.study or one.arm == two.arm


def is_paired(one: Side, ours: Sample, two: Side, theirs: Sample) -> bool:
    """Whether the numbers of two sides are compared seed by seed."""
    seeds = seeds_of(ours)
    return may_pair(one, two) and seeds is not None and seeds == seeds_of(theirs)


def _by_seed(sample: Sample) -> Array:
    return np.array([p.value for p in sorted(sample.points, key=lambda p: p.seed or 0)])


def differences(
    rows: Sequence[Row], sides: Sequence[Side], quantities: Sequence[Compared], baseline: str
) -> tuple[Difference, ...]:
    """Every side minus the baseline, wherever both have numbers."""
    better = {entry.name: entry.better for entry in quantities}
    base = next(place for place, side in enumerate(sides) if side.name == baseline)
    families: dict[str, list[Difference]] = {}
    for row in rows:
        for place, side in enumerate(sides):
            ours, theirs = row.samples[place], row.samples[base]
            if place != base and ours.points and theirs.points:
                paired = is_paired(side, ours, sides[base], theirs)
                found = _difference(row, side.name, baseline, ours, theirs, paired)
                families.setdefault(row.quantity, []).append(found)
    return tuple(
        entry for name, family in families.items() for entry in _adjusted(family, better[name])
    )


def _difference(
    row: Row, side: str, baseline: str, ours: Sample, theirs: Sample, paired: bool
) -> Difference:
    found = gap(ours, theirs, paired=paired)
    same = paired and found.effect == 0 and np.array_equal(_by_seed(ours), _by_seed(theirs))
    return Difference(
        quantity=row.quantity,
        at=row.at,
        side=side,
        baseline=baseline,
        effect=found.effect,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        paired=paired,
        seeds=min(len(ours.points), len(theirs.points)),
        outcome="equal" if same else "undecided",
    )


def _adjusted(family: Sequence[Difference], better: Better) -> list[Difference]:
    """The differences of one quantity with adjusted p-values, and what they say."""
    known = [entry.p_value for entry in family if entry.p_value is not None]
    adjusted = iter(holm(known))
    found = []
    for entry in family:
        p = None if entry.p_value is None else next(adjusted)
        changes = {"p_value": p, "outcome": _outcome(entry, p, better)}
        found.append(entry.model_copy(update=changes))
    return found


def _outcome(entry: Difference, p: float | None, better: Better) -> Change:
    if entry.outcome == "equal" or p is None or p >= LEVEL or entry.effect == 0:
        return entry.outcome
    up = entry.effect > 0
    if better == "neither":
        return "higher" if up else "lower"
    return "better" if up == (better == "higher") else "worse"
