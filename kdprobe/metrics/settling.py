"""When does a layer settle?  CKA of every checkpoint with the last one of its own run.

Axes: l layers, k checkpoints, g groups that are left out.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from kdprobe.errors import Refused, UsageError
from kdprobe.metrics.alignment import (
    SMALLEST,
    Seeing,
    jackknife,
    must_be_known,
    normalised,
    variant_of,
)
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, roles_of
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.looking import learners
from kdprobe.metrics.scope import Scope
from kdprobe.metrics.settling_page import Course, Kinship, Settling
from kdprobe.probes.contract import sight
from kdprobe.stats import Difference, mean_of_defined
from kdprobe.study import Study


def settled(alike: Array, level: Array | float) -> Array:
    """(...) index of the first of (..., k) from which all are at least `level` (...).

    NaN where not even the last is, as in a layer that has no CKA.
    """
    above = alike >= np.asarray(level)[..., None]
    stays = np.logical_and.accumulate(above[..., ::-1], axis=-1)[..., ::-1]
    return np.where(stays[..., -1], stays.argmax(-1), np.nan)


def matrices(seen: Seeing) -> tuple[Array, Array]:
    """CKA (l, k, k) between the checkpoints, and the same (g, l, k, k) without each group."""

    def cka(cross: Array) -> Array:
        own = np.diagonal(cross, axis1=-2, axis2=-1)
        return normalised(cross, own, own)

    return cka(seen["cross"]), cka(seen["without/cross"])


@metric(
    "settling",
    title="When layers settle (CKA over training)",
    question="When does each layer find the geometry that it ends with?",
    source="Kornblith et al. 2019, arXiv:1905.00414, section 3; of checkpoints as Raghu et al. "
    "2017, arXiv:1706.05806, compare them",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("alike", "between_seeds"),
    place=61,
)
def settling(
    study: Study,
    scope: Scope,
    *,
    images: int = 256,
    batch: int = 64,
    level: float = 0.9,
    kernel: str = "linear",
    bandwidth: float = 0.8,
    estimator: str = "debiased",
    precision: str = "float32",
) -> Inquiry[Settling]:
    """CKA of a layer at every checkpoint with the same layer at the last one that learners share.

    A layer has settled at the first epoch from which this stays at or above `level`; at the last
    epoch it is 1 by definition, so a layer that settles there was not seen to settle. CKA as in
    the metric `cka`: linear and debiased by default, averaged over minibatches. Its standard error
    is a jackknife over minibatches; the epoch's range is that of CKA plus and minus two of them.

    The reference is the same layer of the final networks of two seeds: from when is a layer more
    like its own end than an independently trained network is? Student minus baseline of the same
    seed in epochs, with intervals over seeds.
    """
    must_be_known("settling", bandwidth, kernel=kernel, estimator=estimator, precision=precision)
    if not 0 < level < 1:
        raise UsageError(f"setting settling.level is {level:g}; wanted between 0 and 1")
    runs, epochs = learners(study)
    scope.enough("settling", images, SMALLEST)
    names = scope.similarity_layers
    how: dict[str, Any] = {
        "images": images,
        "batch": batch,
        "kernel": kernel,
        "bandwidth": float(bandwidth),
        "estimator": estimator,
        "precision": precision,
    }
    asked = {run: sight("course", *run.at(epochs), layers=names[run.id], **how) for run in runs}
    kin = {
        arm: sight("course", *(run.at(epochs)[-1] for run in several), layers=names[arm_of], **how)
        for arm, several in study.arms.items()
        for arm_of in [several[0].id]
        if len(several) > 1 and all(names[run.id] == names[arm_of] for run in several)
    }
    seen = yield [*asked.values(), *kin.values()]
    found, lacking = answered(seen, asked)
    between: dict[str, Kinship] = {}
    for arm, wanted in kin.items():
        try:
            between[arm] = _kinship(seen[wanted], names[study.arms[arm][0].id])
        except Refused as answer:
            lacking.append(answer.reason)
    courses = {
        run.id: _course(at, names[run.id], epochs, level, between.get(run.arm))
        for run, at in found.items()
    }
    count = min(int(at["images"]) for at in found.values())
    return Settling(
        variant=variant_of(kernel, bandwidth, estimator, precision, batch=batch, images=count),
        images=count,
        level=level,
        epochs=epochs,
        runs=courses,
        between_seeds=between,
        later=_later(study, courses),
        maps={
            r.id: mean_of_defined(np.moveaxis(matrices(at)[0], 0, -1)) for r, at in found.items()
        },
        roles=roles_of(list(found)),
        refused=list(dict.fromkeys(lacking)),
    )


def _kinship(seen: Seeing, layers: Sequence[str]) -> Kinship:
    """How alike the last networks of an arm's seeds are, on average over pairs of them."""
    cka, without = matrices(seen)
    one, two = zip(*combinations(range(cka.shape[-1]), 2), strict=True)
    alike = cka[:, one, two].mean(-1)
    error = jackknife(alike, without[..., one, two].mean(-1), seen["share"])
    return Kinship(layers, alike.round(6), error.round(6))


def _course(
    seen: Seeing,
    layers: Sequence[str],
    epochs: Sequence[int],
    level: float,
    kin: Kinship | None,
) -> Course:
    cka, without = matrices(seen)
    alike = cka[..., -1]
    error = jackknife(alike, without[..., -1], seen["share"])
    reach = 2 * np.nan_to_num(error)

    def epoch(values: Array, wanted: Array | float) -> Array:
        place = settled(values, wanted)
        known = np.nan_to_num(place).astype(int)
        return np.where(np.isnan(place), np.nan, np.asarray(epochs, dtype=float)[known])

    return Course(
        layers=layers,
        alike=alike.round(6),
        error=error.round(6),
        settled=epoch(alike, level),
        earliest=epoch(alike + reach, level),
        latest=epoch(alike - reach, level),
        own=epoch(alike, kin.alike) if kin else np.full(len(layers), np.nan),
    )


def _later(study: Study, courses: Mapping[str, Course]) -> dict[str, Difference]:
    """Student minus baseline, epochs, by "arm, layer"."""
    found: dict[str, Difference] = {}
    for layer in dict.fromkeys(name for at in courses.values() for name in at.layers):
        values = {run: at.named.get(layer, np.nan) for run, at in courses.items()}
        known = {run: value for run, value in values.items() if np.isfinite(value)}
        found |= {f"{arm}, {layer}": gap for arm, gap in over_seeds(study, known).items()}
    return found
