"""How flat is the ground?  Loss along random directions, and over planes of two of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdprobe.errors import UsageError
from kdprobe.metrics.contract import Inquiry, answered, metric, roles_of
from kdprobe.metrics.effects import over_seeds
from kdprobe.metrics.landscape_page import EFFECTS, Ground, Landscape, ground
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import Difference
from kdprobe.study import Run, Study

CHOICES = {"normalisation": ("filter", "layer", "none"), "precision": ("float32", "bf16")}


def effects_of(study: Study, runs: Mapping[str, Ground]) -> dict[str, dict[str, Difference]]:
    """Student minus baseline for each scalar, of runs that have the first baseline's network."""
    alike = {r.id for r in study.runs if study.baselines and same_network(r, study.baselines[0])}
    return {
        name: over_seeds(study, {r: getattr(g, name) for r, g in runs.items() if r in alike})
        for name in EFFECTS
    }


def same_network(one: Run, other: Run) -> bool:
    """Whether a straight way, or one draw of directions, means the same for both."""
    return one.entry.network == other.entry.network


def _must_make_sense(
    radius: float, within: float, chosen: Mapping[str, str], **points: int
) -> None:
    if radius <= 0:
        raise UsageError(f"setting landscape.radius is {radius:g}; wanted a number above 0")
    if not 0 < within <= radius:
        raise UsageError(
            f"setting landscape.within is {within:g}; wanted above 0 and at most "
            f"landscape.radius, {radius:g}"
        )
    for name, choice in chosen.items():
        if choice not in CHOICES[name]:
            raise UsageError(
                f"setting landscape.{name} is {choice!r}; wanted {', '.join(CHOICES[name])}"
            )
    for name, count in points.items():
        if count < 3 or count % 2 == 0:
            raise UsageError(
                f"setting landscape.{name} is {count}; wanted an odd number of at least 3: the "
                "network itself is the point in the middle"
            )


@metric(
    "landscape",
    title="Loss landscape",
    question="How flat is the ground around each solution?",
    source="Li et al. 2018, arXiv:1712.09913, section 4",
    better="neither",
    range=(0.0, float("inf")),
    ranged=("line", "sharpness", "negative", "roughness"),
    place=70,
)
def landscape(
    study: Study,
    scope: Scope,
    *,
    images: int = 64,
    radius: float = 1.0,
    points: int = 21,
    directions: int = 3,
    pairs: int = 3,
    plane_points: int = 11,
    within: float = 0.5,
    normalisation: str = "filter",
    precision: str = "float32",
) -> Inquiry[Landscape]:
    """Cross-entropy along random directions, and over planes of `pairs` pairs of them.

    A direction is Gaussian over all weights of more than one axis, 0 for biases and BatchNorm,
    and scaled to the weights' own length: filter by filter, layer by layer, or (none) as one
    vector. At the last epoch that the learners share, BatchNorm with its stored statistics; the
    teacher, whose architecture is another, with one pair. Of the lines: the second central
    difference at the middle. Of the planes: sharpness max L(|x| <= within) - L(0); the share of
    inner points with lambda_min < -0.05 |lambda_max| of the plane's 2 x 2 Hessian by central
    differences, beyond the error of the loss; roughness mean |second difference| / mean |first
    difference|. Means over the draws, which are the same for networks of one architecture.
    precision bf16 is faster and off by some thousandths, which the table shows.
    """
    chosen = {"normalisation": normalisation, "precision": precision}
    _must_make_sense(radius, within, chosen, points=points, plane_points=plane_points)

    def looks(run: Run) -> tuple[Sight, Sight]:
        final = study.final(run)
        common: dict[str, Any] = {"images": images, "radius": float(radius), **chosen}
        several = 1 if run.role == "teacher" else pairs
        line = sight("slice_1d", final, points=points, directions=directions, **common)
        return line, sight("slice_2d", final, points=plane_points, pairs=several, **common)

    asked = {run: looks(run) for run in study.runs}
    seen = yield [one for both in asked.values() for one in both]
    lines, lost = answered(seen, {run: both[0] for run, both in asked.items()})
    planes, lost_too = answered(seen, {run: both[1] for run, both in asked.items()})
    found = {
        r.id: ground(lines[r], planes[r], within) for r in study.runs if r in lines and r in planes
    }
    first = [study.teacher, *(runs[0] for runs in study.arms.values())]
    line = next(iter(lines.values()))
    return Landscape(
        images=int(line["images"]),
        steps=np.asarray(line["steps"]),
        runs=found,
        effects=effects_of(study, found),
        within=within,
        normalisation=normalisation,
        networks={run.id: run.entry.network.label for run in study.runs},
        roles=roles_of(study.runs),
        planes={
            run.id: (planes[run]["steps"], planes[run]["loss"][0])
            for run in first
            if run is not None and run.id in found
        },
        reasons=list(dict.fromkeys(lost + lost_too)),
    )
