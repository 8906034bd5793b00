"""When are two layers alike?  Five notions, each with what it does not see.

Every measure is reckoned in two steps: a layer is described once, by an array with one row an
image, and two descriptions are compared. So all pairs, and all shuffles of the images, are
comparisons alone.

Axes: n images, k directions of one layer and q of the other; "..." is any stack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.geometry import Shapes, coordinates, cosine_distances, squared_distances

IMAGES_A_DIRECTION = 5  # canonical correlations of more directions are high by chance alone
INVARIANCES = {  # of features X (n, d)
    "orthogonal": "rotations and reflections of the features",
    "permutation": "another order of the units",
    "scaling": "one factor for all features",
    "translation": "a constant added to a feature",
    "linear": "any invertible linear map of the features",
}


@dataclass(frozen=True)
class Choice:
    """What the measures let a user choose."""

    variance: float = 0.99
    k: int = 10


@dataclass(frozen=True)
class Measure:
    """A notion of likeness and its label; the tests hold it to its range and invariances."""

    key: str
    title: str
    definition: str
    source: str
    range: tuple[float, float]
    invariances: tuple[str, ...]  # of either layer; it sees any other change
    describe: Callable[[Shapes, Choice], Array]  # -> (..., n, k)
    compare: Callable[[Array, Array], Array]  # (..., n, k), (..., n, q) -> (...)
    square: bool = False  # a description has a column an image too

    def shuffled(self, described: Array, orders: Array) -> Array:
        """(n, k) -> (draws, n, k): the images in other orders (draws, n)."""
        rows = described[orders]
        return np.take_along_axis(rows, orders[:, None, :], axis=2) if self.square else rows


def kept_directions(shapes: Shapes, choice: Choice) -> Array:
    """(..., n, k) principal coordinates, no more than a fifth of the images."""
    most = max(1, shapes.grams.shape[-1] // IMAGES_A_DIRECTION)
    return coordinates(shapes, choice.variance, most)


def all_directions(shapes: Shapes, choice: Choice) -> Array:
    """(..., n, k) principal coordinates of length one together."""
    found = coordinates(shapes)
    length = np.sqrt(np.square(found).sum((-2, -1), keepdims=True))
    return found / np.where(length > 0, length, 1)


def _canonical(one: Array, two: Array) -> tuple[Array, Array, Array, Array]:
    """Canonical correlations (..., i), the smaller number of directions (...), and the loadings of
    the canonical variates on either side's principal coordinates (..., k, i), (..., q, i).
    """
    sizes = [np.linalg.norm(side, axis=-2) for side in (one, two)]
    unit, other = (
        side / np.where(size > 0, size, 1)[..., None, :]
        for side, size in zip((one, two), sizes, strict=True)
    )
    left, values, right = np.linalg.svd(unit.swapaxes(-1, -2) @ other, full_matrices=False)
    count = np.minimum(*((size > 0).sum(-1) for size in sizes))
    values = np.where(np.arange(values.shape[-1]) < count[..., None], np.clip(values, 0, 1), 0)
    weights = (
        (np.abs(load) * size[..., :, None]).sum(-2)
        for load, size in zip((left, right.swapaxes(-1, -2)), sizes, strict=True)
    )
    return values, count, *weights


def svcca(one: Array, two: Array) -> Array:
    """(...) mean canonical correlation."""
    values, count, _, _ = _canonical(one, two)
    return np.asarray(values.sum(-1) / np.maximum(count, 1))


def pwcca(one: Array, two: Array) -> Array:
    """(...) canonical correlations weighted by how much of a layer they project, both layers."""
    values, count, *weights = _canonical(one, two)
    counted = np.arange(values.shape[-1]) < count[..., None]
    weights = [np.where(counted, weight, 0) for weight in weights]
    totals = [weight.sum(-1) for weight in weights]
    found = [
        (values * weight).sum(-1) / np.where(total > 0, total, 1)
        for weight, total in zip(weights, totals, strict=True)
    ]
    return np.asarray(sum(found) / 2)


def procrustes(one: Array, two: Array) -> Array:
    """(...) 1 less the angle over a right angle, after the best rotation."""
    nuclear = np.linalg.svd(one.swapaxes(-1, -2) @ two, compute_uv=False).sum(-1)
    return np.asarray(1 - np.arccos(np.clip(nuclear, 0, 1)) / (np.pi / 2))


def ranked_distances(shapes: Shapes, choice: Choice) -> Array:
    """(..., n, n) ranks of the distances of all pairs, with mean 0 and length 1."""
    from scipy.stats import rankdata

    distances = squared_distances(shapes.grams)
    above, below = np.triu_indices(distances.shape[-1], 1)
    ranks = rankdata(distances[..., above, below], axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    length = np.sqrt(2 * np.square(ranks).sum(-1, keepdims=True))
    found = np.zeros_like(distances)
    with np.errstate(invalid="ignore", divide="ignore"):
        found[..., above, below] = ranks / length
    return found + found.swapaxes(-1, -2)


def neighbours(shapes: Shapes, choice: Choice) -> Array:
    """(..., n, n) 1 / sqrt(n k) where the column is among the k images nearest to the row's."""
    distances = cosine_distances(shapes)
    n = distances.shape[-1]
    distances = np.where(np.eye(n, dtype=bool), np.inf, distances)
    near = np.argpartition(distances, choice.k - 1, axis=-1)[..., : choice.k]
    found = np.zeros_like(distances)
    np.put_along_axis(found, near, 1 / np.sqrt(n * choice.k), axis=-1)
    return found


def overlap(one: Array, two: Array) -> Array:
    """(...) inner product of two descriptions with a column an image."""
    one, two = np.broadcast_arrays(one, two)
    flat = (*one.shape[:-2], 1, -1)
    return np.asarray((one.reshape(flat) @ two.reshape(flat).swapaxes(-1, -2))[..., 0, 0])


_TURNS = ("orthogonal", "permutation", "scaling")
MEASURES = {
    measure.key: measure
    for measure in (
        Measure(
            "svcca",
            "SVCCA",
            "mean canonical correlation of the principal directions that hold the asked share of "
            f"the variance, and no more than one for {IMAGES_A_DIRECTION} images",
            "Raghu et al. 2017, arXiv:1706.05806",
            (0.0, 1.0),
            (*_TURNS, "translation"),
            kept_directions,
            svcca,
        ),
        Measure(
            "pwcca",
            "PWCCA",
            "the same correlations, each weighted by sum_j |<h, x_j>| over the principal "
            "coordinates x_j of a layer; the mean of both layers' weightings",
            "Morcos et al. 2018, arXiv:1806.05759",
            (0.0, 1.0),
            (*_TURNS, "translation"),
            kept_directions,
            pwcca,
        ),
        Measure(
            "procrustes",
            "Procrustes",
            "1 - 2 θ / π, θ = arccos(||X'Y||_* / (||X||_F ||Y||_F)): the angle that is left after "
            "the best rotation",
            "Williams et al. 2021, arXiv:2110.14739",
            (0.0, 1.0),
            (*_TURNS, "translation"),
            all_directions,
            procrustes,
        ),
        Measure(
            "rsa",
            "RSA",
            "Spearman's correlation of the Euclidean distances of all pairs of images",
            "Kriegeskorte et al. 2008",
            (-1.0, 1.0),
            (*_TURNS, "translation"),
            ranked_distances,
            overlap,
            square=True,
        ),
        Measure(
            "knn",
            "mutual k-NN",
            "share of an image's k nearest neighbours by cosine that both layers have in common",
            "Huh et al. 2024, arXiv:2405.07987",
            (0.0, 1.0),
            _TURNS,
            neighbours,
            overlap,
            square=True,
        ),
    )
}
