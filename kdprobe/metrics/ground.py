"""How steep, how bent and how rough is a slice of the loss?  Numbers of lines and of planes.

    sharpness  max of L within a radius of the middle, less L there
    negative   part of the inner points at which lambda_min < -0.05 |lambda_max|, lambda the two
               eigenvalues of the plane's own Hessian by central differences
    roughness  mean |second difference| / mean |first difference|, rows and columns together

Of a plane, not of the space: a network with negative curvature in none of the random planes may
have some in others, and the full Hessian is not seen here.

Axes: r directions or pairs of them, p points of a side.
"""

import numpy as np

from kdprobe.metrics.contract import Array

NEGATIVE = 0.05  # of the other eigenvalue, below zero
ROUNDING = 2.0**-23  # of float32: the least relative error of a loss
DIFFERENCES = 8  # a second difference has so many times the error of a loss, at most
SAME = 1e-6  # of a step: on the circle counts as inside


def curvature(steps: Array, loss: Array) -> Array:
    """(r,) second derivative of every line (r, p) at its middle, by central differences."""
    middle = len(steps) // 2
    width = steps[middle + 1] - steps[middle]
    second = loss[:, middle + 1] - 2 * loss[:, middle] + loss[:, middle - 1]
    return np.asarray(second / width**2)


def sharpness(steps: Array, loss: Array, radius: float) -> Array:
    """(r,) the largest rise of every plane (r, p, p) within `radius` of its middle."""
    middle = len(steps) // 2
    away = np.hypot(steps[:, None], steps[None])
    near = away <= radius + SAME * (steps[1] - steps[0])
    return np.asarray(loss[:, near].max(1) - loss[:, middle, middle])


def negative(loss: Array, off: float = 0.0) -> Array:
    """(r,) part of the inner points of every plane (r, p, p) that curve downwards.

    What the error `off` of a loss, relative, could make curve so does not count.
    """
    here = loss[:, 1:-1, 1:-1]
    xx = loss[:, 1:-1, 2:] - 2 * here + loss[:, 1:-1, :-2]
    yy = loss[:, 2:, 1:-1] - 2 * here + loss[:, :-2, 1:-1]
    xy = (loss[:, 2:, 2:] - loss[:, 2:, :-2] - loss[:, :-2, 2:] + loss[:, :-2, :-2]) / 4
    centre, reach = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    least, largest = centre - reach, np.abs(centre + reach)
    around = np.lib.stride_tricks.sliding_window_view(np.abs(loss), (3, 3), axis=(1, 2))
    noise = DIFFERENCES * max(off, ROUNDING) * around.max((3, 4))
    found = (least < -NEGATIVE * largest) & (least < -noise)
    return np.asarray(found.mean((1, 2)))


def roughness(loss: Array) -> Array:
    """(r,) second differences of every plane (r, p, p) against first ones; NaN where it is flat."""
    first, second = (
        (np.abs(np.diff(loss, n, axis=1)).mean((1, 2)), np.abs(np.diff(loss, n)).mean((1, 2)))
        for n in (1, 2)
    )
    total = np.add(*first)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, np.add(*second) / total, np.nan))


def error(values: Array) -> float | None:
    """The standard error of a mean over directions; None of one direction."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def known(value: float | None, digits: int = 4) -> float | None:
    """Rounded for a table; None where it is not a number."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def log_loss(loss: Array) -> tuple[tuple[float | None, ...], ...]:
    """(p, p) nats as log10 for a surface; a loss of exactly 0 still has a logarithm."""
    logs = np.log10(np.maximum(loss, 1e-6))
    return tuple(tuple(v if np.isfinite(v) else None for v in row) for row in logs.tolist())
