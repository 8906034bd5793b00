"""What do distances in one network tell of those in another?  Distance correlation, also partial.

The U-centred distances of all pairs of images are a vector. What the baseline's explains of the
student's is taken off by least squares, and the rest is correlated with the teacher's, and with
that of the classes.

Source: Szekely and Rizzo 2014 (partial distance correlation).

Axes: p networks, l layers, n images, s pairs of student and baseline, m numbers of a vector.
"""

from collections.abc import Sequence

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.geometry import (
    Shapes,
    correlations,
    cosine_distances,
    in_parts,
    squared_distances,
    u_centred,
)

SAME = 1e-9  # of the squared length: less is left over by rounding


def remainder(of: Array, less: Array, other: Array) -> Array:
    """corr(A|B, Y) from corr(A, Y), corr(A, B) and corr(B, Y); NaN where B explains all of A."""
    left = 1 - less**2
    return np.asarray((of - less * other) / np.sqrt(np.where(left > SAME, left, np.nan)))


def partial(of: Array, less: Array, other: Array) -> Array:
    """corr(A|B, T|B) from corr(A, T), corr(A, B) and corr(B, T): partial distance correlation.

    Source: Szekely and Rizzo 2014.
    """
    return np.asarray(remainder(of, less, other) / remainder(np.ones_like(of), other, other))


def class_distances(labels: Array) -> Array:
    """(n, n) Euclidean distances of one-hot labels, up to their factor: 0 in a class, 1 across."""
    return np.asarray(labels[:, None] != labels[None, :], dtype=np.float64)


def centred_rows(distances: Array) -> Array:
    """(..., n, n) -> (..., n * n), U-centred."""
    found = u_centred(distances)
    return found.reshape(*found.shape[:-2], -1)


def distance_correlations(networks: Shapes, labels: Array, rows: Array) -> tuple[Array, Array]:
    """Of every layer, bias-corrected distance correlations of the networks (p, l, n, n) on the
    images at `rows`: (l, p + 1, p + 1), the classes last, and (l, p, p) of features of length one.
    """
    classes = centred_rows(class_distances(labels[rows]))[None]
    plain, unit = [], []
    for layer in range(networks.grams.shape[1]):
        at = networks.at(slice(None), layer).of(rows)
        distances = centred_rows(np.sqrt(squared_distances(at.grams)))
        plain.append(correlations(np.concatenate([distances, classes])))
        unit.append(correlations(centred_rows(np.sqrt(cosine_distances(at)))))
    return np.array(plain), np.array(unit)


def quantities(plain: Array, unit: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """(6, s, l) from the correlations of a teacher, then learners, then the classes."""
    a, b = np.array(pairs).T
    of = plain.transpose(1, 2, 0)
    shared, classes = of[a, b], plain.shape[1] - 1
    return np.stack(
        [
            *(unit.transpose(1, 2, 0)[side, 0] for side in (a, b)),
            remainder(of[a, classes], shared, of[b, classes]),
            remainder(of[b, classes], shared, of[a, classes]),
            partial(of[a, 0], shared, of[b, 0]),
            shared,
        ]
    )


def relevance_by_chance(
    networks: Shapes, labels: Array, pairs: Sequence[tuple[int, int]], orders: Array
) -> Array:
    """(s, l, draws) relevance of the distilled features when the labels are in other orders."""
    a, b = np.array(pairs).T
    classes = class_distances(labels)
    found = []
    for layer in range(networks.grams.shape[1]):
        at = networks.at(slice(None), layer)
        rows = centred_rows(np.sqrt(squared_distances(at.grams)))
        shared = correlations(rows)[a, b][:, None]
        drawn = []
        for some in in_parts(orders):
            shuffled = centred_rows(classes[some[:, :, None], some[:, None, :]])
            drawn.append(_between(rows, shuffled))
        with_classes = np.concatenate(drawn, axis=1)
        found.append(remainder(with_classes[a], shared, with_classes[b]))
    return np.array(found).swapaxes(0, 1)


def _between(rows: Array, others: Array) -> Array:
    """(p, m), (q, m) -> (p, q) cosines."""
    sizes = [np.linalg.norm(side, axis=1) for side in (rows, others)]
    scale = np.outer(*sizes)
    return np.asarray(rows @ others.T / np.where(scale > 0, scale, np.nan))
