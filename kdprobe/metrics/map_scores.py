"""How do the maps of all networks compare with the teacher's?  From maps to means and differences.

Axes: n images, h and w pixels, r seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdprobe.metrics.attribution_page import MapChecks, MapScore, Reference
from kdprobe.metrics.contract import Array
from kdprobe.metrics.effects import over_images
from kdprobe.metrics.map_agreement import (
    idle,
    rank_accuracy,
    rank_correlation,
    relevance_mass,
    ssim,
    top_overlap,
)
from kdprobe.pairing import arms_of, pairs_by_arm
from kdprobe.stats import Difference, mean_of_defined, paired_bootstrap
from kdprobe.study import Study

Mapped = Mapping[str, Mapping[str, Array]]  # run -> map -> (n, h, w)


@dataclass(frozen=True)
class Compared:
    """One kind of map of one network, one number an image; NaN where there is none."""

    correlation: Array  # (n,) with the teacher's map
    overlap: Array
    ssim: Array
    mass: Array  # (n,) on the object
    rank_accuracy: Array
    idle: int  # maps that are the same everywhere


def compare(
    maps: Mapped, teacher: str, objects: Array | None, top: float
) -> dict[str, dict[str, Compared]]:
    """Every map of every network with the teacher's map of the same image, and with the object."""
    theirs = maps.get(teacher, {})
    return {
        run: {
            name: _compared(ours, theirs.get(name) if run != teacher else None, objects, top)
            for name, ours in named.items()
        }
        for run, named in maps.items()
    }


def _compared(ours: Array, theirs: Array | None, objects: Array | None, top: float) -> Compared:
    none = np.full(len(ours), np.nan)
    alike = (none,) * 3 if theirs is None else agreement(ours, theirs, top)
    on = (
        (none,) * 2
        if objects is None
        else (relevance_mass(ours, objects), rank_accuracy(ours, objects))
    )
    return Compared(*alike, *on, idle=int(idle(ours).sum()))


def agreement(one: Array, two: Array, top: float) -> tuple[Array, Array, Array]:
    """(n,) rank correlation, overlap of the highest pixels, and SSIM."""
    return rank_correlation(one, two), top_overlap(one, two, top), ssim(one, two)


def score(found: Compared) -> MapScore:
    """Means over images, with their standard errors."""
    return MapScore(
        *mean_and_error(found.correlation),
        *mean_and_error(found.overlap),
        *mean_and_error(found.ssim),
        *mean_and_error(found.mass),
        *mean_and_error(found.rank_accuracy),
        idle=found.idle,
    )


def mean_and_error(values: Array) -> tuple[float | None, float | None]:
    """Of (n,) numbers without the NaN; None where nothing, or one number alone, is known."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None, None
    error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else None
    return float(known.mean()), error


def references(study: Study, maps: Mapped, teacher: str, top: float) -> dict[str, Reference]:
    """By map: agreement of networks that share no teacher, and of maps that share no image."""
    arms = arms_of([run for run in study.runs if run.id in maps], "baseline")
    first = next(iter(arms.values()), [])
    learners = [run.id for run in study.learners if run.id in maps]
    found = {}
    for name, theirs in maps.get(teacher, {}).items():
        pairs = [
            agreement(maps[a.id][name], maps[b.id][name], top)
            for a, b in combinations(first, 2)
            if name in maps[a.id] and name in maps[b.id]
        ]
        other = np.roll(theirs, -1, axis=0)
        strangers = [
            agreement(maps[run][name], other, top) for run in learners if name in maps[run]
        ]
        found[name] = Reference(_means(pairs), len(pairs), _means(strangers))
    return found


def _means(found: list[tuple[Array, Array, Array]]) -> dict[str, float | None]:
    kinds = ("correlation", "overlap", "ssim")
    columns = [np.concatenate(kind) for kind in zip(*found, strict=True)] or [np.empty(0)] * 3
    return {kind: mean_and_error(c)[0] for kind, c in zip(kinds, columns, strict=True)}


def nearer(
    study: Study, compared: Mapping[str, Mapping[str, Compared]], name: str
) -> dict[str, Difference]:
    """By student arm: share of images on which its map is nearer to the teacher's than that of the
    baseline of its seed, less a half; a tie counts half.
    """
    found = {}
    for arm, pairs in pairs_by_arm(study.runs).items():
        gaps = [
            compared[a.id][name].correlation - compared[b.id][name].correlation
            for a, b in pairs
            if name in compared.get(a.id, {}) and name in compared.get(b.id, {})
        ]
        if gaps:
            ahead = np.stack([(np.sign(gap) + 1) / 2 for gap in gaps])
            found[arm] = paired_bootstrap(ahead, np.full_like(ahead, 0.5), mean_of_defined)
    return found


def gained(
    study: Study, compared: Mapping[str, Mapping[str, Compared]], names: list[str], kind: str
) -> dict[str, Difference]:
    """Student minus baseline of the quantity `kind`, by "arm map"."""
    found = {}
    for name in names:
        values = {
            run: getattr(named[name], kind) for run, named in compared.items() if name in named
        }
        for arm, difference in over_images(study, values).items():
            found[f"{arm} {name}"] = difference
    return {row: found[row] for row in found if np.isfinite(found[row].effect)}


def checks_of(seen: Mapping[str, Array], name: str) -> MapChecks:
    """The worth of the map that a look calls `name`."""
    (left, error), (by_chance, _), (change, change_error) = (
        mean_and_error(seen[f"{kind}/{name}"])
        for kind in ("unexplained", "by_chance", "sensitivity")
    )
    return MapChecks(left, error, by_chance, change, change_error)
