"""How many concepts are on the object, and how many off it?  Counts of one network at one layer.

Axes: n images, q units, b thresholds in nats, t thresholds in standard deviations, u replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.discarding import background_level, background_sd, concepts
from kdprobe.metrics.looking import Objects
from kdprobe.stats import mean_of_defined

IN_SD = (0.5, 1.0, 1.5, 2.0)  # of the background's entropies: thresholds without a unit
HALF = 0.5  # of the restarts: found by fewer, a concept is unstable; also a pseudo-count


@dataclass(frozen=True)
class ConceptCount:
    """The concepts of one network at one layer, at the end of its training."""

    foreground: Array  # (b, n) task-relevant: concepts on the object; NaN where it cannot be told
    background: Array  # (b, n) task-irrelevant: concepts off it
    foreground_area: Array  # (b,) share of the object's units that are concepts
    background_area: Array  # (b,) share of the background's units
    count_error: Array  # (b, 2) Monte-Carlo standard error of the mean of both; 0 where exact
    jaccard: Array  # (b,) of the concept sets of two estimates with other chance; 1 where exact
    unstable: Array  # (b,) share of the concepts that fewer than half of the restarts find
    log_odds: Array  # (b, n) log odds of a concept on the object over those off it
    foreground_sd: Array  # (t, n) concepts with thresholds of 0.5 to 2 background sd
    background_sd: Array  # (t, n)
    sd: float  # of the entropies off the object, nats
    map_error: Array  # (n,) Monte-Carlo error of each map of H, root mean square over units, nats
    auroc: Array  # (n,) how well -H separates object from background; 0.5 = chance
    precision: Array  # (n,) average precision of the same; the object's share of units = chance
    level: float  # Hbar, nats, mean over images
    dead_images: int  # on which no output of the layer depends on any pixel
    converged: Array | None  # (n,) bool, False where a map did not; None for the closed form
    distortion: float | None  # normalised feature loss; None for the closed form

    @property
    def unconverged(self) -> int:
        """How many maps did not converge."""
        return 0 if self.converged is None else int((~self.converged).sum())

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

    NaN for an image on which the layer is dead or which is left out (all of h NaN), and on the side
    that it does not have: an image without background has no count of concepts there.
    """
    dead = np.isnan(h).all(-1)
    foreground, background = (
        np.where(dead | ~side.any(-1), np.nan, (found & side).sum(-1))
        for side in (objects.on, objects.off)
    )
    return foreground, background


def area(count: Array, side: Array) -> Array:
    """(b,) share of the units (n, q) on one side that are concepts, over the images counted."""
    units = np.where(np.isnan(count), 0, side.sum(-1)).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(units > 0, np.nansum(count, axis=-1) / units, np.nan))


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


def unstable(found: Array, restarts: Sequence[Array]) -> Array:
    """(b, ..., n, q) bool: concepts that fewer than half of the restarts find."""
    if not restarts:
        return np.zeros_like(found)
    again = sum(one.astype(np.int16) for one in restarts)
    return np.asarray(found & (again < HALF * len(restarts)))


@dataclass(frozen=True)
class Estimates:
    """The entropies of one network at one layer, and what its estimator says of them."""

    h: Array  # (n, q) nats
    replicates: Sequence[Array] = ()  # (n, q) each, as fresh chance would have given them
    restarts: Sequence[Array] = ()  # (n, q) each, independent, from a part of the draws
    lost: int = 0  # degrees of freedom that the spread of the replicates loses
    dead: int = 0  # images on which nothing depends on any unit
    converged: Array | None = None  # (n,) bool
    distortion: float | None = None


def count(
    seen: Estimates, objects: Objects, thresholds: Sequence[float], kind: str = "data"
) -> ConceptCount:
    """Count the concepts of one network; `kind` of background level as in `background_level`."""

    here = objects.on | objects.off

    def find(h: Array) -> Array:
        return here & concepts(h, background_level(h, objects.off, kind), thresholds)

    h, level = seen.h, background_level(seen.h, objects.off, kind)
    found, again = find(h), [find(other) for other in seen.replicates]
    foreground, background = sides(found, h, objects)
    sd = float(background_sd(h, objects.off))
    in_sd = sides(concepts(h, level, [t * sd for t in IN_SD]), h, objects)
    shaky = unstable(found, [find(other) for other in seen.restarts])
    everywhere = np.ones(len(found))
    many = seen.replicates
    spread = np.stack(many).std(axis=0, ddof=seen.lost) if many else np.zeros_like(h)
    return ConceptCount(
        foreground=foreground,
        background=background,
        foreground_area=area(foreground, objects.on),
        background_area=area(background, objects.off),
        count_error=everywhere[:, None] * count_error(again, h, objects, seen.lost),
        jaccard=everywhere * agreement(again),
        unstable=shaky.sum((-2, -1)) / np.maximum(found.sum((-2, -1)), 1),
        log_odds=log_odds(foreground, background, objects),
        foreground_sd=in_sd[0],
        background_sd=in_sd[1],
        sd=sd,
        map_error=np.sqrt(mean_of_defined(spread**2)),
        auroc=separation(h, objects),
        precision=average_precision(h, objects),
        level=float(mean_of_defined(level)),
        dead_images=seen.dead,
        converged=None if seen.converged is None else seen.converged | np.isnan(h).all(-1),
        distortion=seen.distortion,
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
