"""How many concepts are on the object, and how many off it?  Counts of one network at one layer.

Axes: n images, g grid cells a side, b thresholds, u halves of the probes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.discarding import background_level, concepts
from kdprobe.stats import mean_of_defined


@dataclass(frozen=True)
class ConceptCount:
    """The concepts of one network at one layer, at the end of its training."""

    foreground: Array  # (b, n) task-relevant: concepts on the object; NaN where the layer is dead
    background: Array  # (b, n) task-irrelevant: concepts off it
    count_error: Array  # (b, 2) Monte-Carlo standard error of the mean of both; 0 where exact
    entropy_error: float  # root mean square Monte-Carlo error of H, nats
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


def count(
    h: Array, error: Array, halves: Array, on: Array, thresholds: Sequence[float]
) -> ConceptCount:
    """Count the concepts of one network.

    Args:
        h: (n, g, g) entropies, nats.
        error: (n, g, g) their standard errors from random probes.
        halves: (u, n, g, g) entropies by half of the probes each; u = 0 where exact.
        on: (n, g, g) True on the object.
        thresholds: (b,) nats.
    """
    level = background_level(h, on)
    foreground, background = sides(h, on, thresholds)
    return ConceptCount(
        foreground=foreground,
        background=background,
        count_error=half_sample_error(halves, on, thresholds),
        entropy_error=float(np.sqrt(mean_of_defined((error**2).ravel()))),
        auroc=separation(h, on),
        level=float(level),
        dead_images=int(np.isnan(h).any((-2, -1)).sum()),
    )


def sides(h: Array, on: Array, thresholds: Sequence[float]) -> tuple[Array, Array]:
    """N_fg and N_bg, each (b, ..., n), from entropies (..., n, g, g) and objects (n, g, g).

    NaN for an image on which the layer is dead.
    """
    found = concepts(h, background_level(h, on), thresholds)
    dead = np.isnan(h).any((-2, -1))
    counts = [(found & side).sum((-2, -1)) for side in (on, ~on)]
    foreground, background = (np.where(dead, np.nan, count) for count in counts)
    return foreground, background


def half_sample_error(halves: Array, on: Array, thresholds: Sequence[float]) -> Array:
    """(b, 2) Monte-Carlo standard error of the mean of N_fg and N_bg; 0 where nothing is random.

    Half of the probes is as far from all of them as all are from the truth, so the spread of what
    the halves (u, n, g, g) give is the error, also of a count, which jumps. Errors of cells are not
    independent: all images share the probes, and the background's level moves with them.

    Source: McCarthy 1969 (half-sample replication).
    """
    if len(halves) == 0:
        return np.zeros((len(thresholds), 2))
    means = np.stack([mean_of_defined(np.stack(sides(half, on, thresholds))) for half in halves])
    return np.asarray(means.std(axis=0).T)  # of (u, 2, b)


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
