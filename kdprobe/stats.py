"""Is the difference real?  Paired bootstrap over images inside seeds, Holm over layers.

Axes: r seeds, n images, u bootstrap draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # (..., n) images of one seed -> (...)

DRAWS = 1000
CHUNK = 250  # draws at a time: bounds the memory
FEWEST_SEEDS = 3  # for an interval of one number a run
FEWEST_TOLD = 30  # images that a sentence of the first screen rests on
ROUNDING = 1e-12  # of their size: numbers no further apart than that are alike


@dataclass(frozen=True)
class Difference:
    """Student minus baseline, with its interval."""

    effect: float
    low: float
    high: float
    p_value: float  # two-sided
    seeds: int
    images: int


def mean_of_defined(values: Array) -> Array:
    """Mean over the last axis, leaving NaN out; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(defined, values, 0.0).sum(-1)
        return np.asarray(np.where(count > 0, total / count, np.nan))


def variance_of_defined(values: Array) -> Array:
    """Variance over the last axis, leaving NaN out; NaN where fewer than two are defined."""
    centred = values - mean_of_defined(values)[..., None]
    several = (~np.isnan(values)).sum(-1) > 1
    return np.asarray(np.where(several, mean_of_defined(centred**2), np.nan))


def image_bootstrap(
    values: Array, statistic: Statistic, *, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """95% percentile interval of a statistic of (n,) images, by drawing images again; NaN if none.

    Source: Efron 1979.
    """
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(known), size=(draws, len(known)))
    low, high = np.quantile(statistic(known[drawn]), (0.025, 0.975))
    return float(low), float(high)


def paired_bootstrap(
    student: Array, baseline: Array, statistic: Statistic, *, seed: int = 0, draws: int = DRAWS
) -> Difference:
    """The difference of a statistic, averaged over seeds, with error bars over seeds and images.

    Every draw takes seeds with replacement, and images with replacement; student and baseline share
    both, and so do all seeds, which are measured on the same images (Owen 2007, the pigeonhole
    bootstrap). Few seeds make a bootstrap too sure of itself, so its standard error is at least
    that of the seeds' own effects, and the interval and p-value are Student's with r - 1 degrees
    of freedom. With one seed only the images vary, and the degrees of freedom are theirs.

    Args:
        student: (r, n) one number an image, row by seed; NaN where it is not defined.
        baseline: (r, n) the same seeds and images. An image that is not defined on one side is
            left out of both.
        statistic: of the images of one seed, e.g. `mean_of_defined`; works on the last axis.

    Returns:
        The effect, its 95% interval and two-sided p-value, and how many images were defined.
    """
    if student.shape != baseline.shape or student.ndim != 2 or student.size == 0:
        raise ValueError(
            f"found samples of shapes {student.shape} and {baseline.shape}; wanted the same (r, n)"
        )
    undefined = np.isnan(student) | np.isnan(baseline)
    ours, theirs = (np.where(undefined, np.nan, side) for side in (student, baseline))
    sides = statistic(ours), statistic(theirs)
    effects = sides[0] - sides[1]
    seeds, images = len(student), int((~undefined).any(0).sum())
    effect = float(effects.mean())
    if np.isnan(effect):
        return Difference(effect, effect, effect, 1.0, seeds, images)
    error = _bootstrap_error(ours, theirs, statistic, seed, draws)
    if seeds > 1:
        error = max(error, float(effects.std(ddof=1)) / seeds**0.5)
    if is_rounding(error, np.stack(sides)):
        error = 0.0
    return _student(effect, error, seeds - 1 if seeds > 1 else max(images - 1, 1), seeds, images)


def over_runs(student: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The mean difference of one number a run, paired by seed; NaN edges below `FEWEST_SEEDS`."""
    ours, theirs = (np.array(side, dtype=np.float64)[:, None] for side in (student, baseline))
    found = paired_bootstrap(ours, theirs, mean_of_defined)
    if found.seeds < FEWEST_SEEDS:
        return replace(found, low=float("nan"), high=float("nan"), p_value=1.0)
    return found


def of_shares(found: Difference) -> Difference:
    """The interval of a difference of two shares: within [-1, 1], and none of no width.

    It has no width where all that was drawn is alike, which few images often are.
    """
    if found.low == found.high:
        return replace(found, low=float("nan"), high=float("nan"))
    return replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0))


def _bootstrap_error(
    ours: Array, theirs: Array, statistic: Statistic, seed: int, draws: int
) -> float:
    """Standard deviation of the effect over draws of seeds and images."""
    seeds, images = ours.shape
    chance = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        which = chance.integers(seeds, size=(count, seeds, 1))
        drawn = chance.integers(images, size=(count, 1, images))
        found.append((statistic(ours[which, drawn]) - statistic(theirs[which, drawn])).mean(1))
    values = np.concatenate(found)
    return float(values[~np.isnan(values)].std())


def _student(effect: float, error: float, freedom: int, seeds: int, images: int) -> Difference:
    """Interval and p-value by Student's t.

    Effects that are all alike have no error to be told from: then p is that of their signs alone,
    2^(1 - r) (Fisher's sign-flip test), and never small with few seeds.
    """
    if error == 0:
        p = 1.0 if effect == 0 else 2.0 ** (1 - seeds)
        return Difference(effect, effect, effect, p, seeds, images)
    low, high, p = student_t(effect, error, freedom)
    return Difference(effect, low, high, p, seeds, images)


def student_t(effect: float, error: float, freedom: float) -> tuple[float, float, float]:
    """The ends of the 95% interval and the two-sided p-value, of a standard error above zero."""
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(freedom, 0.975)) * error
    return effect - reach, effect + reach, 2 * float(stdtr(freedom, -abs(effect) / error))


def is_rounding(error: float, values: Array) -> bool:
    """Whether `error` is no more than what rounding makes of equal `values`."""
    return error <= ROUNDING * float(np.nanmax(np.abs(values), initial=0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the order given, at most 1."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[int(index)] = largest
    return adjusted


def outcome(
    effect: float, p_value: float, wanted: Literal["higher", "lower"], level: float = 0.05
) -> Literal["supported", "contradicted", "undecided"]:
    """An effect's verdict: significant and as wanted, significant against it, or neither."""
    if not np.isfinite(effect) or effect == 0 or p_value >= level:
        return "undecided"
    return "supported" if (effect > 0) == (wanted == "higher") else "contradicted"
