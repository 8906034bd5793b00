"""How alike are two networks' perturbations?  Means over attacks that moved both.

Axes: s networks, n images, t classes aimed at.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array

FEWEST = 10  # attacks, or images, that a mean is told of


@dataclass(frozen=True)
class Mean:
    """Over attacks, with a standard error over the images they are made on; None of too few."""

    value: float | None
    error: float | None


def over_attacks(values: Array, kept: Array) -> Mean:
    """Mean of `values` (n, t) over the `kept` attacks (n, t); error over images, as of a ratio."""
    count = kept.sum(1).astype(np.float64)
    if count.sum() < FEWEST:
        return Mean(None, None)
    value = float((values * kept).sum() / count.sum())
    off = (values * kept).sum(1) - value * count
    n = int((count > 0).sum())
    error = float(np.sqrt((off**2).sum() * n / (n - 1)) / count.sum()) if n > 1 else None
    return Mean(value, error)


def of_images(values: Array, kept: Array) -> Array:
    """(n,) every image's mean over its kept attacks; NaN where it has none."""
    count = kept.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(count > 0, (values * kept).sum(1) / count, np.nan))


def ratio(ours: Array, theirs: Array) -> Array:
    """The smaller of two lengths, in units of the larger; 0 where both are 0."""
    large = np.maximum(ours, theirs)
    return np.asarray(np.minimum(ours, theirs) / np.where(large > 0, large, 1.0))


class Attacks:
    """What was seen of the attacks on several networks, by their places."""

    def __init__(self, seen: Mapping[str, Array]) -> None:
        self.right, self.left = seen["right"] > 0, seen["left"] > 0
        self.norms, self.rest = seen["norms"], seen["rest"]
        self.cosines, self.strange = np.clip(seen["cosines"], -1, 1), seen["strange"]

    def kept(self, i: int, j: int) -> Array:
        """(n, t) attacks that take both networks out of the class that both gave to the image."""
        clean = (self.right[i] & self.right[j])[:, None]
        moved = (self.norms[i] > 0) & (self.norms[j] > 0)
        return np.asarray(clean & self.left[i] & self.left[j] & moved)

    def sizes(self, i: int, j: int) -> Array:
        return ratio(self.norms[i], self.norms[j])

    def stranger(self, i: int) -> Mean:
        """Against the first network's attack on another image."""
        return over_attacks(self.strange[i], self.kept(i, 0))
