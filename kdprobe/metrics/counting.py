"""How many concepts are on the object, and how many off it?  Counts of one network at one layer.

Axes: n images, q units, b thresholds in nats, t thresholds in standard deviations, u replicates.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.discarding import background_sd
from kdprobe.metrics.looking import Objects
from kdprobe.stats import mean_of_defined

IN_SD = (0.5, 1.0, 1.5, 2.0)  # of the background's entropies: thresholds without a unit
HALF = 0.5  # of the replicates: found by fewer, a concept is unstable; also a pseudo-count
STEADY = 0.75  # of the replicates: found by as many, a concept is persistent


@dataclass(frozen=True)
class ConceptCount:
    """The concepts of one network at one layer, at the end of its training."""

    foreground: Array  # (b, n) task-relevant: concepts on the object; NaN where the layer is dead
    background: Array  # (b, n) task-irrelevant: concepts off it
    count_error: Array  # (b, 2) Monte-Carlo standard error of the mean of both; 0 where exact
    jaccard: Array  # (b,) of the concept sets of two estimates with other chance; 1 where exact
    unstable: Array  # (b,) share of all that are concepts at times: in under half of the replicates
    log_odds: Array  # (b, n) log odds of a concept on the object over those off it
    foreground_sd: Array  # (t, n) concepts with thresholds of 0.5 to 2 background sd
    background_sd: Array  # (t, n)
    sd: float  # of the entropies off the object, nats
    map_error: Array  # (n,) Monte-Carlo error of each map of H, root mean square over units, nats
    auroc: Array  # (n,) how well -H separates object from background; 0.5 = chance
    precision: Array  # (n,) average precision of the same; the object's share of units = chance
    level: float  # Hbar, nats, mean over images
    dead_images: int  # on which no output of the layer depends on any pixel
    unconverged: int  # images whose map did not converge
    distortion: float | None  # normalised feature loss; None for the closed form

    @property
    def entropy_error(self) -> float:
        """Root mean square over images of the maps' errors, nats."""
        return float(np.sqrt(mean_of_defined(self.map_error**2)))

    @property
    def share(self) -> Array:
        """(b,) lambda: mean over images of N_fg / (N_fg + N_bg), where an image has a concept."""
        return share_of(self.foreground, self.background)

    @property
    def share_sd(self) -> Array:
        """(t,) the same with thresholds in standard deviations."""
        return share_of(self.foreground_sd, self.background_sd)


def share_of(foreground: Array, background: Array) -> Array:
    """(b,) mean over images of N_fg / (N_fg + N_bg); 0 / 0 is left out."""
    total = foreground + background
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(total > 0, foreground / total, np.nan)
    return mean_of_defined(ratio)


def sides(found: Array, h: Array, objects: Objects) -> tuple[Array, Array]:
    """N_fg and N_bg, each (b, ..., n), from concepts (b, ..., n, q) of entropies (..., n, q).

    NaN for an image on which the layer is dead.
    """
    dead = np.isnan(h).all(-1)
    counts = [(found & side).sum(-1) for side in (objects.on, objects.off)]
    foreground, background = (np.where(dead, np.nan, count) for count in counts)
    return foreground, background


def log_odds(foreground: Array, background: Array, objects: Objects) -> Array:
    """(b, n) log odds of a unit of the object to be a concept, less those of the background.

    With half a unit added to every count (Haldane 1956), so that none is infinite; NaN without
    object or background.
    """
    odds = []
    for count, side in ((foreground, objects.on), (background, objects.off)):
        size = side.sum(-1)
        ratio = np.log((count + HALF) / (size - count + HALF))
        odds.append(np.where(size > 0, ratio, np.nan))
    return np.asarray(odds[0] - odds[1])


def count_error(found: Sequence[Array], h: Array, objects: Objects, lost: int = 0) -> Array:
    """(b, 2) Monte-Carlo standard error of the mean of N_fg and N_bg; 0 where nothing is random.

    From the concepts (b, n, q) of replicates: the spread of what they count is the error. Errors of
    units are not independent: all images share the draws, and the background's level moves too.
    """
    if not found:
        return np.zeros((1, 2))
    means = np.stack([mean_of_defined(np.stack(sides(one, h, objects))) for one in found])
    return np.asarray(means.std(axis=0, ddof=lost).T)  # of (u, 2, b)


def agreement(found: Sequence[Array]) -> Array:
    """(b,) mean Jaccard index of the concept sets (b, n, q) of consecutive replicates.

    1 where nothing is random; an image without concepts in both has nothing to disagree on.
    """
    if not found:
        return np.ones(1)
    pairs = []
    for one, two in pairwise(found):
        both, either = (one & two).sum(-1), (one | two).sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            pairs.append(mean_of_defined(np.where(either > 0, both / either, np.nan)))
    return mean_of_defined(np.stack(pairs).T)


def unstable(found: Array, replicates: Sequence[Array]) -> Array:
    """(b, ..., n, q) bool: what is a concept at times, but in fewer than half of the replicates.

    Also where the estimate itself, `found`, has it.
    """
    if not replicates:
        return np.zeros_like(found)
    again = sum(one.astype(np.int16) for one in replicates)
    return np.asarray((found | (again > 0)) & (again < HALF * len(replicates)))


def count(
    h: Array,
    replicates: Iterable[Array],
    objects: Objects,
    find: Callable[[Array], Array],
    *,
    lost: int = 0,
    unconverged: int = 0,
    distortion: float | None = None,
) -> ConceptCount:
    """Count the concepts of one network.

    Args:
        h: (n, q) entropies, nats.
        replicates: the same, as fresh chance would have given them; none where exact.
        objects: which units are on the object and off it.
        find: entropies (n, q) -> concepts (b, n, q).
        lost: degrees of freedom that the spread of the replicates loses.
        unconverged, distortion: of the estimator, for the record.
    """
    others = list(replicates)
    found, again = find(h), [find(other) for other in others]
    foreground, background = sides(found, h, objects)
    everywhere = np.ones(len(found))
    sd = float(background_sd(h, objects.off))
    own = mean_of_defined(np.where(objects.off, h, np.nan))
    level = float(mean_of_defined(own))
    in_sd = np.stack([level - h > t * sd for t in IN_SD])
    foreground_sd, background_in_sd = sides(in_sd, h, objects)
    spread = np.stack(others).std(axis=0, ddof=lost) if others else np.zeros_like(h)
    here = objects.on | objects.off
    shaky = unstable(found, again) & here
    ever = (found | np.any(again, axis=0)) & here if again else found & here
    return ConceptCount(
        foreground=foreground,
        background=background,
        count_error=everywhere[:, None] * count_error(again, h, objects, lost),
        jaccard=everywhere * agreement(again),
        unstable=shaky.sum((-2, -1)) / np.maximum(ever.sum((-2, -1)), 1),
        log_odds=log_odds(foreground, background, objects),
        foreground_sd=foreground_sd,
        background_sd=background_in_sd,
        sd=sd,
        map_error=np.sqrt(mean_of_defined(spread**2)),
        auroc=separation(h, objects),
        precision=average_precision(h, objects),
        level=level,
        dead_images=int(np.isnan(h).all(-1).sum()),
        unconverged=unconverged,
        distortion=distortion,
    )


def _defined(h: Array, objects: Objects) -> Array:
    """(n,) images with an object, a background and a live layer."""
    live = ~np.isnan(h).all(-1)
    return np.asarray((objects.on.sum(-1) > 0) & (objects.off.sum(-1) > 0) & live)


def separation(h: Array, objects: Objects) -> Array:
    """(n,) area under the ROC curve of -H against the object; NaN without object or background."""
    from scipy.stats import rankdata

    ranks = rankdata(-h, axis=1, nan_policy="omit")
    inside, outside = objects.on.sum(1), objects.off.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        u = np.where(objects.on, ranks, 0).sum(1) - inside * (inside + 1) / 2
        area = u / (inside * outside)
    return np.where(_defined(h, objects), area, np.nan)


def average_precision(h: Array, objects: Objects) -> Array:
    """(n,) average precision of -H against the object; NaN without object or background.

    sum over ranks of (recall gained) * precision; equal entropies share a rank, as in scikit-learn.
    """
    present = objects.on | objects.off
    scores = np.where(present & ~np.isnan(h), h, np.inf)
    order = np.argsort(scores, axis=1, kind="stable")
    kept, hit = (np.take_along_axis(a, order, 1) for a in (scores, objects.on))
    hits = hit.cumsum(1)
    last = np.concatenate([kept[:, 1:] != kept[:, :-1], np.ones((len(h), 1), bool)], axis=1)
    upto = np.maximum.accumulate(np.where(last, hits, 0), axis=1)  # hits at the end of a rank
    before = np.concatenate([np.zeros((len(h), 1)), upto[:, :-1]], axis=1)
    precision = hits / np.arange(1, h.shape[1] + 1)
    gained = np.where(last & np.isfinite(kept), (hits - before) * precision, 0).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = gained / objects.on.sum(1)
    return np.where(_defined(h, objects), area, np.nan)
