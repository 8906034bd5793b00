"""How is CKA reckoned from what was seen?  The ratio, its error, its null, and its name.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))

Source: Kornblith et al. 2019, arXiv:1905.00414, section 3.

Axes: l layers, r layers of the references, g groups that are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import UsageError
from kdprobe.metrics.cka_page import LEVEL, LayerSimilarity
from kdprobe.metrics.contract import Array

SMALLEST = 4  # images, for the unbiased estimator
CHOICES = {
    "kernel": ("linear", "rbf"),
    "estimator": ("debiased", "biased"),
    "precision": ("float32", "bf16"),
}
Seeing = Mapping[str, Array]


def normalised(cross: Array, first: Array, second: Array) -> Array:
    """CKA (..., s, t) from HSIC of the pairs (..., s, t) and of each layer with itself (..., s),
    (..., t).

    NaN where a layer gives the same features for every image.
    """
    scale = (
        np.sqrt(np.maximum(first, 0))[..., :, None] * np.sqrt(np.maximum(second, 0))[..., None, :]
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, cross / scale, np.nan)


def jackknife(value: Array, without: Array, share: Array) -> Array:
    """Standard error of `value` (...) from the same (g, ...) without each group of `share` (g,).

    NaN where nothing was left out. Source: Busing, Meijer, van der Leeden 1999 (unequal groups).
    """
    if len(without) == 0:
        return np.full(np.shape(value), np.nan)
    times = (1 / share).reshape(-1, *[1] * np.ndim(value))
    pseudo = times * value - (times - 1) * without
    return np.asarray(np.sqrt(((pseudo - pseudo.mean(0)) ** 2 / (times - 1)).mean(0)))


def must_be_known(metric: str, bandwidth: float, **chosen: str) -> None:
    """Raise UsageError for a kernel, estimator, precision or bandwidth that there is not."""
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            wanted = ", ".join(CHOICES[name])
            raise UsageError(f"setting {metric}.{name} is {value!r}; wanted {wanted}")
    if bandwidth <= 0:
        raise UsageError(f"setting {metric}.bandwidth is {bandwidth:g}; wanted above 0")


def variant_of(
    kernel: str, bandwidth: float, estimator: str, precision: str, *, batch: int, images: int
) -> str:
    """The name of what was computed."""
    own = f"rbf (bandwidth {bandwidth:g} of the median distance)" if kernel == "rbf" else kernel
    size = min(batch, images)
    over = f"mean over {images // size} minibatches of {size}" if images > size else "full"
    reckoned = "" if precision == "float32" else f", in {precision}"
    return f"{own} CKA, {estimator} HSIC, {over}, {images} images{reckoned}"


@dataclass(frozen=True)
class Pairs:
    """All that one look tells of layer pairs."""

    cka: Array  # (l, r)
    without: Array  # (g, l, r)
    share: Array  # (g,)
    p: Array  # (l, r) by the max statistic
    null: Array  # (l, r) the CKA above which p is below LEVEL
    places: Mapping[str, slice]  # run -> its layers

    @classmethod
    def read(cls, seen: Seeing, places: Mapping[str, slice]) -> "Pairs":
        count = seen["cross"].shape[1]
        cka = normalised(seen["cross"], seen["own"], seen["own"][:count])
        own = seen["without/own"]
        without = normalised(seen["without/cross"], own, own[..., :count])
        null = normalised(reach(seen), seen["own"], seen["own"][:count])
        return cls(cka, without, seen["share"], adjusted(seen), null, places)

    def between(self, run: str, others: Sequence[str], layers: Sequence[str]) -> LayerSimilarity:
        """`run` and the mean over `others`; the p-value is their largest."""

        def mean(values: Array) -> Array:
            parts = [values[..., self.places[run], self.places[other]] for other in others]
            return np.asarray(np.mean(parts, axis=0))

        cka = mean(self.cka)
        p = np.max([self.p[self.places[run], self.places[other]] for other in others], axis=0)
        error = jackknife(cka, mean(self.without), self.share)
        p = np.where(np.isnan(cka), np.nan, p)
        null = np.where(np.isnan(cka), np.nan, mean(self.null))
        return LayerSimilarity(layers, *(values.round(6) for values in (cka, error, p, null)))


def reach(seen: Seeing) -> Array:
    """HSIC (l, r) above which `adjusted` is below LEVEL; infinite of too few permutations."""
    highest = np.sort(seen["highest"])
    place = len(highest) + 1 - int(np.ceil(LEVEL * (1 + len(highest))))
    least = highest[place] if place < len(highest) else np.inf
    return np.asarray(seen["chance"] + least * seen["spread"])


def adjusted(seen: Seeing) -> Array:
    """p-values (l, r) for all pairs at once: how many permutations deviate as much anywhere."""
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = (seen["cross"] - seen["chance"]) / seen["spread"]
    highest = np.sort(seen["highest"])
    above = len(highest) - np.searchsorted(highest, np.nan_to_num(deviation))
    return np.asarray((1 + above) / (1 + len(highest)))
