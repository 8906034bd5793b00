"""Is the difference real?  Paired bootstrap over images inside seeds, Holm over layers.

Axes: r seeds, n images, u bootstrap draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]  # (..., n) images of one seed -> (...)

DRAWS = 2000
CHUNK = 250  # draws at a time: bounds the memory


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
    """Variance over the last axis, leaving NaN out; NaN where nothing is defined."""
    centred = values - mean_of_defined(values)[..., None]
    return mean_of_defined(centred**2)


def paired_bootstrap(
    student: Array, baseline: Array, statistic: Statistic, *, seed: int = 0, draws: int = DRAWS
) -> Difference:
    """The difference of a statistic, averaged over seeds, with a hierarchical bootstrap.

    Every draw takes seeds with replacement and, inside each, images with replacement; student and
    baseline share both. With one seed only the images vary.

    Args:
        student: (r, n) one number an image, row by seed; NaN where it is not defined.
        baseline: (r, n) the same seeds and images.
        statistic: of the images of one seed, e.g. `mean_of_defined`; works on the last axis.

    Returns:
        The effect, its 95% percentile interval, and the two-sided bootstrap p-value.
    """
    if student.shape != baseline.shape or student.ndim != 2 or student.size == 0:
        raise ValueError(
            f"found samples of shapes {student.shape} and {baseline.shape}; wanted the same (r, n)"
        )
    seeds, images = student.shape
    effect = float(np.mean(statistic(student) - statistic(baseline)))
    chance = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, CHUNK):
        count = min(CHUNK, draws - start)
        which = chance.integers(seeds, size=(count, seeds, 1))
        drawn = chance.integers(images, size=(count, seeds, images))
        differences = statistic(student[which, drawn]) - statistic(baseline[which, drawn])
        found.append(differences.mean(axis=1))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if np.isnan(effect) or len(values) == 0:
        return Difference(float("nan"), float("nan"), float("nan"), 1.0, seeds, images)
    low, high = np.quantile(values, [0.025, 0.975])
    tail = min((values <= 0).sum(), (values >= 0).sum())
    p = min(1.0, 2 * (int(tail) + 1) / (len(values) + 1))
    return Difference(effect, float(low), float(high), p, seeds, images)


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
