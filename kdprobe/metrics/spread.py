"""In how many directions does a cloud of features spread?  By its covariance and by neighbours.

    effective rank       exp(-sum p log p),  p = eigenvalues of the covariance over their sum
    participation ratio  (sum lambda)^2 / sum lambda^2
    TwoNN                mu = T_2 / T_1 is above x with x^-d: d by maximum likelihood, the largest
                         tenth censored
    MLE                  d = 1 / mean log(T_k / T_j) over images and j < k

with T_j the distance of an image to its j-th neighbour.

Source: Roy and Vetterli 2007 (effective rank); Facco et al. 2017 (TwoNN, there by a straight line);
Levina and Bickel 2004, as averaged by MacKay and Ghahramani 2005 (MLE).

Axes: n images, m directions, k neighbours; "..." is any stack of layers.
"""

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.geometry import ROUNDING, Shapes, centred, squared_distances

KEPT = 0.9  # of the ratios of TwoNN: the largest belong to no one density
FEWEST = 10  # images with different neighbours


def effective_rank(values: Array) -> Array:
    """(..., m) eigenvalues -> (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = values / values.sum(-1, keepdims=True)
        terms = np.where(values > 0, p * np.log(p), 0.0)
    return _of_varying(np.exp(-terms.sum(-1)), values)


def participation(values: Array) -> Array:
    """(..., m) eigenvalues -> (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _of_varying(values.sum(-1) ** 2 / np.square(values).sum(-1), values)


def _of_varying(found: Array, values: Array) -> Array:
    """NaN where no direction varies."""
    return np.asarray(np.where(values.sum(-1) > 0, found, np.nan))


def isotropic(images: int, width: Array) -> tuple[Array, Array]:
    """Effective rank and participation ratio that a Gaussian of equal variances would have.

    From the spectrum of Wishart matrices, m <= q of n - 1 and the width: exp(log m - m / (2 q)), to
    first order (Page 1993), and E (tr W)^2 / E tr W^2 = (m q + 2) / (m + q + 1).
    """
    m, q = np.minimum(images - 1, width), np.maximum(images - 1, width)
    return np.asarray(m * np.exp(-m / (2 * q))), np.asarray((m * q + 2) / (m + q + 1))


def nearest(grams: Array, k: int) -> Array:
    """(..., n, k) logarithms of the distances to the k nearest images; -inf to an equal image."""
    own = np.diagonal(grams, axis1=-2, axis2=-1)
    apart = squared_distances(grams)
    apart = np.where(apart > ROUNDING * (own[..., :, None] + own[..., None, :]), apart, 0.0)
    apart = np.where(np.eye(grams.shape[-1], dtype=bool), np.inf, apart)
    near = np.sort(np.partition(apart, k - 1, axis=-1)[..., :k], axis=-1)
    with np.errstate(divide="ignore"):
        return np.asarray(0.5 * np.log(near))


def two_nn(near: Array) -> Array:
    """(..., n, k) -> (...); images that have an equal one are left out. NaN of too few others."""
    with np.errstate(invalid="ignore"):
        ratios = near[..., 1] - near[..., 0]
    ratios = np.where(np.isfinite(ratios), ratios, np.inf)
    count = np.isfinite(ratios).sum(-1, keepdims=True)
    kept = np.maximum((KEPT * count).astype(int), 1)
    ratios = np.sort(ratios, axis=-1)
    inside = np.arange(ratios.shape[-1]) < kept
    largest = np.take_along_axis(ratios, kept - 1, axis=-1)
    largest = np.where(count > 0, largest, 0.0)
    total = np.where(inside, ratios, 0.0).sum(-1) + ((count - kept) * largest)[..., 0]
    return _enough(kept[..., 0] - 1, total, count[..., 0])


def mle(near: Array) -> Array:
    """(..., n, k) -> (...); images that have an equal one are left out. NaN of too few others."""
    with np.errstate(invalid="ignore"):
        ratios = near[..., -1:] - near[..., :-1]
    usable = np.isfinite(ratios).all(-1)
    total = np.where(usable[..., None], ratios, 0.0).sum((-2, -1))
    count = usable.sum(-1)
    return _enough(count * ratios.shape[-1] - 1, total, count)


def _enough(freedom: Array, total: Array, images: Array) -> Array:
    sound = (images >= FEWEST) & (total > 0)
    return np.asarray(np.where(sound, freedom / np.where(sound, total, 1), np.nan))


def dimensions(shapes: Shapes, k: int) -> Array:
    """(4, ...) effective rank, participation ratio, TwoNN and MLE."""
    values, _ = shapes.spectrum
    near = nearest(shapes.grams, k)
    return np.stack([effective_rank(values), participation(values), two_nn(near), mle(near)])


def straightened(shapes: Shapes, k: int, draws: int, chance: np.random.Generator) -> Array:
    """(2, ...) TwoNN and MLE of Gaussian clouds that spread as the layers do, mean over draws."""
    values, _ = shapes.spectrum
    found = []
    for _ in range(draws):
        cloud = chance.normal(size=(values.shape[-1],) * 2) * np.sqrt(values)[..., None, :]
        near = nearest(centred(cloud @ cloud.swapaxes(-1, -2)), k)
        found.append(np.stack([two_nn(near), mle(near)]))
    return np.asarray(np.mean(found, axis=0))
