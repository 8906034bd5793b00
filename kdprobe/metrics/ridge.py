"""How well do some features foretell others?  Ridge regression, judged out of fold.

    R^2 = 1 - sum ||y - y'||^2 / sum ||y||^2

Both sides are standardised by the rows of the fit, so that features of y count alike; y' comes
from the rows of the other folds, and so does the penalty, by generalised cross-validation.

Source: Golub, Heath and Wahba 1979 (generalised cross-validation).

Axes: n rows, p and q features.
"""

from collections.abc import Sequence

import numpy as np

from kdprobe.metrics.contract import Array

PENALTIES = np.logspace(-4, 3, 8)  # times the number of rows


def foretold(earlier: Array, later: Sequence[Array], parts: Array) -> list[tuple[Array, Array]]:
    """Squares of what is left of each `later` (n, q), and of all of it, (n,) each, out of fold.

    `earlier` (n, p) foretells; a fold is the rows with the same number in `parts` (n,).
    """
    found = [(np.zeros(len(parts)), np.zeros(len(parts))) for _ in later]
    for part in np.unique(parts):
        held = parts == part
        scaled = _standardised(earlier, ~held)
        x, new = scaled[~held], scaled[held]
        u, s, v = np.linalg.svd(x, full_matrices=False)
        u, s, v = (side[..., s > s.max(initial=0.0) * 1e-6] for side in (u, s, v.T))
        for (residual, total), features in zip(found, later, strict=True):
            y = _standardised(features, ~held)
            weights = u.T @ y[~held]
            shrink = s / (s**2 + _penalty(s, weights, y[~held]))
            residual[held] = ((y[held] - new @ (v * shrink) @ weights) ** 2).sum(1)
            total[held] = (y[held] ** 2).sum(1)
    return found


def _standardised(features: Array, fitted: Array) -> Array:
    """(n, d) less the mean, over the deviation, of the `fitted` rows; constant columns are 0."""
    mean, deviation = features[fitted].mean(0), features[fitted].std(0)
    known = deviation > 1e-6 * np.abs(features[fitted]).max(initial=1e-30)
    return np.asarray(np.where(known, (features - mean) / np.where(known, deviation, 1.0), 0.0))


def _penalty(s: Array, weights: Array, y: Array) -> float:
    """The ridge penalty of least generalised cross-validation error."""
    n = len(y)
    whole, parts = (y**2).sum(), (weights**2).sum(1)
    errors = []
    for penalty in PENALTIES * n:
        kept = s**2 / (s**2 + penalty)
        residual = whole - (parts * (2 * kept - kept**2)).sum()
        errors.append(residual / max(n - 1 - kept.sum(), 1e-9) ** 2)
    return float(PENALTIES[int(np.argmin(errors))] * n)


def r_squared(residual: Array, total: Array) -> tuple[float, float]:
    """R^2 = 1 - sum residual / sum total, and its standard error over images (n,); NaN without
    any variance.
    """
    n, whole = len(total), total.sum()
    if whole == 0:
        return float("nan"), float("nan")
    share = residual.sum() / whole
    spread = ((residual - share * total) ** 2).sum() * n / max(n - 1, 1)
    return float(1 - share), float(np.sqrt(spread) / whole)
