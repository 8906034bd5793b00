"""How many concepts are on the object, and how many off it?  Counts of one network at one layer.

Axes: n images, g grid cells a side, b thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.discarding import background_level, concepts
from kdprobe.stats import mean_of_defined


@dataclass(frozen=True)
class ConceptCount:
    """The concepts of one network at one layer, at its last checkpoint."""

    foreground: Array  # (b, n) task-relevant: concepts on the object
    background: Array  # (b, n) task-irrelevant: concepts off it
    count_error: Array  # (b, 2) Monte-Carlo standard error of the mean of both; 0 where exact
    auroc: Array  # (n,) how well -H separates object from background; 0.5 = chance
    level: float  # Hbar, nats
    dead_images: int  # on which no output of the layer depends on any pixel

    @property
    def share(self) -> Array:
        """(b,) lambda: mean over images of N_fg / (N_fg + N_bg), where an image has a concept."""
        total = self.foreground + self.background
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(total > 0, self.foreground / total, np.nan)
        return mean_of_defined(ratio)


def count(h: Array, error: Array, on: Array, thresholds: Sequence[float]) -> ConceptCount:
    """Count the concepts of one network: entropies and errors (n, g, g), objects (n, g, g)."""
    from scipy.special import ndtr

    level = background_level(h, on)
    found = concepts(h, level, thresholds)
    margin = level - h[None] - np.asarray(thresholds)[:, None, None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        p = ndtr(np.nan_to_num(margin / np.where(error > 0, error, np.nan), nan=0.0))
        flips = np.where(error > 0, p * (1 - p), 0.0)  # variance of one cell's being counted
    errors = [np.sqrt((flips * side).sum((1, 2, 3))) / len(h) for side in (on, ~on)]
    return ConceptCount(
        foreground=(found & on).sum((-2, -1)),
        background=(found & ~on).sum((-2, -1)),
        count_error=np.stack(errors, axis=1),
        auroc=separation(h, on),
        level=float(level),
        dead_images=int(np.isnan(h).any((-2, -1)).sum()),
    )


def separation(h: Array, on: Array) -> Array:
    """(n,) area under the ROC curve of -H against the object; NaN without object or background."""
    from scipy.stats import rankdata

    flat, mask = -h.reshape(len(h), -1), on.reshape(len(on), -1)
    ranks = rankdata(flat, axis=1)
    inside, outside = mask.sum(1), (~mask).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = (ranks * mask).sum(1) - inside * (inside + 1) / 2
        area = u / (inside * outside)
    defined = (inside > 0) & (outside > 0) & ~np.isnan(flat).any(1)
    return np.where(defined, area, np.nan)
