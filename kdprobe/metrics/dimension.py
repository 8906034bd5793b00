"""In how many dimensions do the features live?  Effective rank and intrinsic dimension by layer.

Axes: l layers, n images.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdprobe.errors import UsageError
from kdprobe.metrics.contract import Array, Inquiry, answered, followed, metric, roles_of
from kdprobe.metrics.dimension_page import DimensionOfRun, Dimensions
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.geometry import (
    GAUSSIANS,
    HALVES,
    chance,
    half_sample_error,
    halves,
    look,
    shapes_of,
    shared_layers,
)
from kdprobe.metrics.scope import Scope
from kdprobe.metrics.spread import FEWEST, dimensions, isotropic, straightened
from kdprobe.stats import Difference
from kdprobe.study import Run, Study

DRAWS = 8  # Gaussian clouds whose dimensions are averaged


@metric(
    "dimension",
    title="Dimension of the features",
    question="In how many dimensions do the features of student, baseline and teacher live?",
    source="Roy and Vetterli 2007; Facco et al. 2017; Levina and Bickel 2004",
    better="neither",
    range=(0.0, float("inf")),
    ranged=("effective_rank", "participation", "two_nn", "mle"),
    place=64,
)
def dimension(
    study: Study,
    scope: Scope,
    *,
    images: int = 256,
    k: int = 10,
    half_samples: int = 16,
) -> Inquiry[Dimensions]:
    """Effective rank, participation ratio and intrinsic dimension of every named layer.

    With the eigenvalues λ of the covariance and p = λ / Σ λ: effective rank exp(-Σ p log p),
    participation ratio (Σ λ)² / Σ λ². With the distance T_j of an image to its j-th neighbour:
    TwoNN, the exponent d of the law μ^-d that T_2 / T_1 follows, by maximum likelihood with the
    largest tenth censored; MLE 1 / mean log(T_k / T_j) over images and j < k. Every value of a map
    is a feature of its own; at the last epoch that the learners share. ± is the standard error by
    the delete-half jackknife over images, a little too wide for TwoNN. None can exceed n - 1 by
    far, so beside them stands what Gaussian clouds of n points give: of equal variance in all
    features for the rank, and of the layer's own covariance for the intrinsic dimension.
    """
    _must_be_enough(k, half_samples)
    scope.enough("dimension", images, 2 * max(k + 2, FEWEST), k)
    runs = tuple(run for run in (study.teacher, *followed(study)) if run is not None)
    asked = {run: look(study, scope, run, images) for run in runs}
    seen = yield list(asked.values())
    found, reasons = answered(seen, {run: asked[run] for run in runs})
    count = len(next(iter(found.values()))["labels"])
    rows = halves(count, half_samples, chance(scope, HALVES))
    told = {run.id: _of_run(scope, run, at, k, rows) for run, at in found.items()}
    layers = shared_layers(scope, list(found))
    return Dimensions(
        images=count,
        k=k,
        runs=told,
        roles=roles_of(list(found)),
        shared=layers,
        effects=_effects(study, told, layers),
        unseen=tuple(reasons),
    )


def _must_be_enough(k: int, half_samples: int) -> None:
    """Raise UsageError for settings that give no estimate."""
    if k < 2:
        raise UsageError(f"setting dimension.k is {k}; wanted at least 2 neighbours")
    if half_samples < 2:
        raise UsageError(f"setting dimension.half_samples is {half_samples}; wanted at least 2")


def _of_run(
    scope: Scope, run: Run, seen: Mapping[str, Array], k: int, rows: Sequence[Array]
) -> DimensionOfRun:
    layers = scope.similarity_layers[run.id]
    shapes = shapes_of(seen, layers, layers)
    n = shapes.grams.shape[-1]
    rank, ratio = isotropic(n, seen["widths"])
    values = dimensions(shapes, k)
    errors = half_sample_error(lambda some: dimensions(shapes.of(some), k), rows, n)
    straight = straightened(shapes, k, DRAWS, chance(scope, GAUSSIANS))
    return DimensionOfRun(
        layers=tuple(layers),
        widths=seen["widths"],
        effective_rank=values[0],
        participation=values[1],
        two_nn=values[2],
        mle=values[3],
        errors=np.where(np.isnan(values), np.nan, errors),
        gaussian=np.stack([rank, ratio, *straight]),
    )


def _effects(
    study: Study, runs: Mapping[str, DimensionOfRun], layers: Sequence[str]
) -> Mapping[str, Difference]:
    """By arm, measure and layer: log2 of student over baseline, over seeds."""
    arms: dict[str, dict[str, Difference]] = {}
    for field, told in (("effective_rank", "rank"), ("two_nn", "TwoNN")):
        for layer in layers:
            values = {
                run: float(np.log2(getattr(at, field)[at.layers.index(layer)]))
                for run, at in runs.items()
            }
            for arm, difference in over_seeds(study, values).items():
                arms.setdefault(arm, {})[f"{arm} · {told} · {layer}"] = difference
    return {name: difference for found in arms.values() for name, difference in found.items()}
