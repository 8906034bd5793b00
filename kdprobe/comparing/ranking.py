"""Which side is first, and how sure is that?  Ranks over draws of the means over seeds.

A bootstrap of three seeds has few different draws, and is too sure of itself. So every side's mean
is drawn from what its seeds say of it: mean + sum_i (x_i - mean) g_i / sqrt(r (r - 1)) with g_i
standard normal, stretched by sqrt((r - 1) / chi^2_{r-1}): Student's t with r - 1 degrees of freedom
and error s / sqrt(r), as the differences have (Gelman et al. 2013, section 3.2).
Sides that are paired by seed share g and chi^2, and so their chance: their difference is drawn as
the paired one. They do so in groups of which every two are paired (among arms of several studies,
those of one study); sides of two groups are drawn apart, as Welch's difference has it.

Sides that draw the same mean share their ranks evenly. Two that are apart by the same in every draw
have no spread to be sure of: they change places in the share p / 2 of the draws, where p is that of
a permutation, as for differences. A side with fewer than three seeds is left out where two others
have enough; else all are ranked by their means alone.

Axes: u draws, s sides, r seeds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdprobe.comparing.differences import gap, is_paired
from kdprobe.comparing.record import Better, Compared, Rank, Row, Sample, Side
from kdprobe.stats import FEWEST_SEEDS, ROUNDING

DRAWS = 1000
Array = NDArray[np.float64]


def ranking(
    rows: Sequence[Row], sides: Sequence[Side], quantities: Sequence[Compared], *, seed: int = 0
) -> tuple[Rank, ...]:
    """The rank of every side that has numbers, wherever two sides have."""
    better = {entry.name: entry.better for entry in quantities}
    chance = np.random.default_rng(seed)
    found: list[Rank] = []
    for row in rows:
        here = _to_rank(row.samples)
        if len(here) > 1:
            found += _ranked(row, [sides[p] for p in here], here, better[row.quantity], chance)
    return tuple(found)


def _to_rank(samples: Sequence[Sample]) -> list[int]:
    """The places of the sides that are ranked."""
    enough = [place for place, sample in enumerate(samples) if len(sample.points) >= FEWEST_SEEDS]
    some = [place for place, sample in enumerate(samples) if sample.points]
    return enough if len(enough) > 1 else some


def _ranked(
    row: Row,
    sides: Sequence[Side],
    places: Sequence[int],
    better: Better,
    chance: np.random.Generator,
) -> list[Rank]:
    samples = [row.samples[place] for place in places]
    sign = 1.0 if better == "lower" else -1.0
    means = np.array([[np.mean(sample.values) for sample in samples]])
    ranks = (shares_of_ranks(sign * means) * np.arange(1, len(sides) + 1)).sum(1)
    known = all(len(sample.points) >= FEWEST_SEEDS for sample in samples)
    shares = _drawn_shares(sides, samples, sign, chance) if known else None
    return [
        Rank(
            quantity=row.quantity,
            at=row.at,
            side=side.name,
            rank=float(ranks[place]),
            low=None if shares is None else _quantile(shares[place], 0.025),
            high=None if shares is None else _quantile(shares[place], 0.975),
            shares=() if shares is None else tuple(round(float(x), 4) for x in shares[place]),
        )
        for place, side in enumerate(sides)
    ]


def _drawn_shares(
    sides: Sequence[Side], samples: Sequence[Sample], sign: float, chance: np.random.Generator
) -> Array:
    """(s, s) share of the draws in which a side has a rank; the least of ``sign * mean`` first."""
    drawn = drawn_means(sides, samples, chance)
    doubt = doubts(sides, samples, drawn)
    if not doubt.any():
        return shares_of_ranks(sign * drawn)
    return shares_of_ranks(sign * drawn, chance.random((len(drawn), 1, 1)) < doubt / 2)


def drawn_means(
    sides: Sequence[Side], samples: Sequence[Sample], chance: np.random.Generator
) -> Array:
    """(u, s) means that the seeds of every side allow."""
    drawn = np.empty((DRAWS, len(samples)))
    for group in groups(sides, samples):
        weights = _weights(len(samples[group[0]].points), chance)
        for place in group:
            points = samples[place].points
            ordered = sorted(points, key=lambda p: p.seed or 0) if len(group) > 1 else points
            values = np.array([point.value for point in ordered])
            drawn[:, place] = values.mean() + weights @ (values - values.mean())
    return drawn


def groups(sides: Sequence[Side], samples: Sequence[Sample]) -> list[list[int]]:
    """The places of sides that share their chance: in a group every two are paired by seed."""
    found: list[list[int]] = []
    for place, (side, sample) in enumerate(zip(sides, samples, strict=True)):
        fitting = (
            group
            for group in found
            if all(is_paired(sides[other], samples[other], side, sample) for other in group)
        )
        if (group := next(fitting, None)) is None:
            found.append(group := [])
        group.append(place)
    return found


def doubts(sides: Sequence[Side], samples: Sequence[Sample], drawn: Array) -> Array:
    """(s, s) p-value of two sides that are apart by the same in all draws (u, s); else 0."""
    found = np.zeros((len(sides), len(sides)))
    apart = drawn[:, :, None] - drawn[:, None, :]
    least = ROUNDING * np.abs(drawn).max()
    fixed = (np.ptp(apart, axis=0) <= least) & (np.abs(apart[0]) > least)
    for one, two in np.argwhere(np.triu(fixed, 1)):
        paired = is_paired(sides[one], samples[one], sides[two], samples[two])
        p_value = gap(samples[one], samples[two], paired=paired).p_value
        found[one, two] = found[two, one] = p_value or 0.0
    return found


def _weights(seeds: int, chance: np.random.Generator) -> Array:
    """(u, r) by which deviations from the mean become an error of Student's t."""
    normal = chance.standard_normal((DRAWS, seeds))
    stretch = np.sqrt((seeds - 1) / chance.chisquare(seeds - 1, size=(DRAWS, 1)))
    return np.asarray(normal * stretch / (seeds * (seeds - 1)) ** 0.5)


def shares_of_ranks(values: Array, turned: NDArray[np.bool_] | bool = False) -> Array:
    """(s, s) share of the draws (u, s) in which a side (row) has a rank (column); least is first.

    Sides of equal value have each of the ranks that they take together equally often.

    Args:
        values: (u, s) what is drawn.
        turned: (u, s, s) whether two sides that are not equal change places in a draw.
    """
    count = values.shape[1]
    size = np.abs(values).max(1)[:, None, None]
    alike = np.abs(values[:, None, :] - values[:, :, None]) <= ROUNDING * size
    before = (((values[:, None, :] < values[:, :, None]) ^ turned) & ~alike).sum(2)
    equal = alike.sum(2)
    ranks = np.arange(count)
    within = (ranks >= before[..., None]) & (ranks < (before + equal)[..., None])
    return np.asarray((within / equal[..., None]).mean(0))


def _quantile(shares: Array, level: float) -> int:
    return int(np.searchsorted(np.cumsum(shares), level - 1e-9) + 1)
