"""How much does a layer forget of every unit?  Entropy of the noise it cannot tell from the image.

    H_c = log s_c + 0.5 log(2 pi e)          nats; small = kept, large = discarded

where s minimises the loss of Cheng et al. 2020 (arXiv:2003.03622, equations 1-3). The estimators
are in probes/: jacobian.py (closed form, see `entropy`), fit.py, paper.py. A visual concept is a
unit that is discarded significantly less than the background: Hbar - H_c > b. A unit is a cell of
a grid, a part or a token (probes/units.py).

Axes: k checkpoints, n images, q units, b thresholds. H is NaN where an image lacks a unit, and on
images where the layer is dead.
"""

from collections.abc import Sequence

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.stats import mean_of_defined, variance_of_defined

FLOOR = 1e-12  # of the mean energy: a unit that no output depends on has a finite, huge entropy
ON_OBJECT = 0.5  # a unit is on the object when the object covers at least half of it


def entropy(energy: Array, lam: float, noise: float, present: Array | None = None) -> Array:
    """Entropy of every unit, in nats, from Jacobian energies (..., q).

        H_c = 0.5 log(2 pi e) + 0.5 log( lam noise^2 sum_j g_j / (2 C g_c) ),   C units

    `noise` is the standard deviation that sets the unit of feature change. Derived from the loss by
    putting its gradient to zero under a linear layer; lam and noise move all entropies alike and
    cancel in every concept count. `present` (..., q) tells which units an image has; all by
    default. NaN where it lacks one, and where the layer is dead.
    """
    g = np.asarray(energy, dtype=np.float64)
    has = np.broadcast_to(True if present is None else present, g.shape)
    total, count = g.sum(-1, keepdims=True), has.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        floored = np.maximum(g, FLOOR * total / count)
        ratio = lam * noise**2 * total / (2 * count * floored)
        result: Array = 0.5 * np.log(2 * np.pi * np.e) + 0.5 * np.log(ratio)
    return np.where(has & (total > 0), result, np.nan)


def background_level(h: Array, off: Array, kind: str = "data") -> Array:
    """Hbar (..., n): what the entropies (..., n, q) of an image are compared with.

    kind "data": one number, the mean over images of the mean entropy off the object (the paper's
    rule); "image": each image's own mean. NaN where no image, or not this one, has a background
    and a live layer.
    """
    own = mean_of_defined(np.where(off, h, np.nan))
    if kind == "image":
        return own
    return np.broadcast_to(mean_of_defined(own)[..., None], own.shape)


def background_sd(h: Array, off: Array) -> Array:
    """(...,) standard deviation of the entropy off the object, within images, nats."""
    return np.sqrt(mean_of_defined(variance_of_defined(np.where(off, h, np.nan))))


def concepts(h: Array, level: Array, thresholds: Sequence[float]) -> Array:
    """Which units are concepts: h (..., n, q), level (..., n) -> (b, ..., n, q) bool."""
    kept = np.asarray(level)[..., None] - h
    b = np.asarray(thresholds).reshape(-1, *([1] * kept.ndim))
    with np.errstate(invalid="ignore"):
        return np.asarray(kept[None] > b)
