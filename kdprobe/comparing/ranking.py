"""Which side is first, and how sure is that?  Ranks over draws of the means over seeds.

A bootstrap of three seeds has few different draws, and is too sure of itself. So every side's mean
is drawn from what its seeds say of it: mean + sum_i (x_i - mean) g_i / sqrt(r (r - 1)) with g_i
standard normal, stretched by sqrt((r - 1) / chi^2_{r-1}): Student's t with r - 1 degrees of freedom
and error s / sqrt(r), as the differences have (Gelman et al. 2013, section 3.2).
Sides of the same seeds share g and chi^2, and so their chance: their difference is drawn as the
paired one. Sides that draw the same mean share their ranks evenly. A side with fewer than three
seeds is left out where two others have enough; else all are ranked by their means alone.

Axes: u draws, s sides, r seeds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdprobe.comparing.differences import may_pair, seeds_of
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
    shares = shares_of_ranks(sign * drawn_means(sides, samples, chance)) if known else None
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


def drawn_means(
    sides: Sequence[Side], samples: Sequence[Sample], chance: np.random.Generator
) -> Array:
    """(u, s) means that the seeds of every side allow."""
    seeds = {seeds_of(sample) for sample in samples}
    shared = len(seeds) == 1 and None not in seeds and all(may_pair(sides[0], s) for s in sides)
    columns: list[Array] = []
    weights = _weights(len(samples[0].points), chance)
    for sample in samples:
        points = sorted(sample.points, key=lambda p: p.seed or 0) if shared else sample.points
        values = np.array([point.value for point in points])
        mine = weights if shared else _weights(len(values), chance)
        columns.append(values.mean() + mine @ (values - values.mean()))
    return np.stack(columns, axis=1)


def _weights(seeds: int, chance: np.random.Generator) -> Array:
    """(u, r) by which deviations from the mean become an error of Student's t."""
    normal = chance.standard_normal((DRAWS, seeds))
    stretch = np.sqrt((seeds - 1) / chance.chisquare(seeds - 1, size=(DRAWS, 1)))
    return np.asarray(normal * stretch / (seeds * (seeds - 1)) ** 0.5)


def shares_of_ranks(values: Array) -> Array:
    """(s, s) share of the draws (u, s) in which a side (row) has a rank (column); least is first.

    Sides of equal value have each of the ranks that they take together equally often.
    """
    count = values.shape[1]
    size = np.abs(values).max(1)[:, None, None]
    alike = np.abs(values[:, None, :] - values[:, :, None]) <= ROUNDING * size
    before = ((values[:, None, :] < values[:, :, None]) & ~alike).sum(2)
    equal = alike.sum(2)
    ranks = np.arange(count)
    within = (ranks >= before[..., None]) & (ranks < (before + equal)[..., None])
    return np.asarray((within / equal[..., None]).mean(0))


def _quantile(shares: Array, level: float) -> int:
    return int(np.searchsorted(np.cumsum(shares), level - 1e-9) + 1)
