"""What is a network's number, where the values hold one an image?  Means over the images.

The same formulas as in the metrics (`kdprobe/metrics/`), read back from results.json.

Axes: n images, b thresholds, k checkpoints.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.stats import mean_of_defined, variance_of_defined

Array = NDArray[np.float64]


def mean(values: Any, b: int) -> float:
    """Of (n,), where it is defined."""
    return float(mean_of_defined(_floats(values)))


def share(record: Any, b: int) -> float:
    """lambda = mean N_fg / (N_fg + N_bg), where an image has a concept."""
    on, off = _floats(record["foreground"][b]), _floats(record["background"][b])
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(mean_of_defined(np.where(on + off > 0, on / (on + off), np.nan)))


def walked(record: Any, b: int) -> float:
    """D_mean: mean weight distance walked until an image's concepts peak."""
    return float(mean_of_defined(_distance(record, b)))


def walked_variance(record: Any, b: int) -> float:
    """D_var: its variance over images."""
    return float(variance_of_defined(_distance(record, b)))


def _distance(record: Any, b: int) -> Array:
    """(n,) NaN for an image whose concepts have no peak."""
    peak, path = np.asarray(record["peak"][b]), _floats(record["path"])
    return np.where(peak >= 0, path[np.maximum(peak, 0)], np.nan)


def _floats(values: Any) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


FUNCTIONS: dict[str, Callable[[Any, int], float]] = {
    "mean": mean,
    "share": share,
    "walked": walked,
    "walked_variance": walked_variance,
}
