"""Is there a hill between the student and its baseline?  Loss on the straight way between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.contract import Array, Inquiry, answered, metric, page_only
from kdprobe.metrics.ground import error, known
from kdprobe.metrics.scope import Scope
from kdprobe.pairing import arms_of
from kdprobe.panels import Lines, Panel, Series, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Run, Study

FEWEST = 4  # images: half of them for statistics, half for the loss
REFERENCE = "baselines of two seeds"


def heights(steps: Array, losses: Array) -> Array:
    """(p, n) losses of every image above the straight line between its losses at the ends."""
    t = steps[:, None]
    return np.asarray(losses - (1 - t) * losses[0] - t * losses[-1])


@dataclass(frozen=True)
class Hill:
    """The highest place of a path above the line between its ends."""

    height: float  # nats
    error: float  # standard error over images, at that place
    optimism: float  # how much of the height comes of choosing the place on the same images


def hill(above: Array) -> Hill:
    """Of (p, n) heights of single images.

    A maximum is too high by chance: so the place is also chosen on every second image and the
    height taken from the others, both ways round; the difference is the optimism.
    """
    means = above.mean(1)
    at = above[means.argmax()]
    spread = error(at) or 0.0
    sides = (above[:, 0::2], above[:, 1::2])
    crossed = np.mean([b[a.mean(1).argmax()].mean() for a, b in (sides, sides[::-1])])
    return Hill(float(means.max()), spread, float(means.max() - crossed))


@dataclass(frozen=True)
class Crossing:
    """The way from one network to another of its architecture."""

    group: str  # the arm, or the reference
    role: str
    start: str
    end: str
    distance: float  # between the weights, Euclidean
    ends: tuple[float, float]  # loss, nats, statistics found anew
    anew: Hill  # statistics of BatchNorm found anew at every place
    interpolated: Hill  # statistics interpolated as the weights are


@dataclass(frozen=True)
class Barriers:
    """All ways between a student and its baseline, and between baselines."""

    images: int  # of the half that the loss is taken on
    norms: int  # BatchNorms in the first network
    steps: Array  # (p,)
    crossings: Sequence[Crossing]
    above: Sequence[Array] = page_only()  # (p,) of each crossing, anew
    reasons: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.reasons

    @property
    def _groups(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, crossing in enumerate(self.crossings):
            found.setdefault(crossing.group, []).append(place)
        return found

    def panels(self) -> list[Panel]:
        return [self._lines(), self._by_group(), self._table()]

    @property
    def _statistics(self) -> str:
        if not self.norms:
            return "The networks have no BatchNorm, so both numbers are one."
        return (
            f"Anew: BatchNorm has, at every place, the statistics of {self.images} or one more "
            "other held-out images, seen without labels. Interpolated: its stored statistics, "
            "mixed as the weights are, which raises a hill of its own."
        )

    def _lines(self) -> Lines:
        return Lines(
            title="Height on the straight way",
            how_to_read=(
                "Cross-entropy above the straight line between the losses of both ends, mean over "
                "seeds with their range; 0 is the baseline, 1 the other network. "
                f"Reference: {REFERENCE}. {self._statistics}"
            ),
            x_label="part of the way",
            y_label="height (nats)",
            series=tuple(
                Series.over_seeds(
                    group,
                    self.steps,
                    np.stack([self.above[place] for place in places]),
                    self.crossings[places[0]].role,
                )
                for group, places in self._groups.items()
            ),
        )

    def _by_group(self) -> Table:
        rows = []
        for group, places in self._groups.items():
            for kind in ("anew", "interpolated"):
                tall = np.array([getattr(self.crossings[p], kind).height for p in places])
                rows.append((group, kind, len(places), known(tall.mean()), known(error(tall))))
        return Table(
            title="Barriers by arm",
            how_to_read=(
                "Mean height of the hill between a network and the baseline of its seed, ± its "
                "standard error over seeds. Runs of one seed begin alike; the reference, "
                f"{REFERENCE}, shows how high the hill is without a common beginning (its ways "
                "share networks, so its error is a little too small)."
            ),
            columns=("arm", "BatchNorm", "ways", "barrier (nats)", "±"),
            rows=tuple(rows),
            name="barrier_by_arm",
        )

    def _table(self) -> Table:
        columns: tuple[str, ...] = ("from", "to", "arm", "distance", "loss at start", "loss at end")
        columns += ("barrier anew", "±", "optimism", "interpolated", "± ", "optimism ")
        return Table(
            title="Barriers",
            how_to_read=(
                f"max over the way of L(t) - (1 - t) L(0) - t L(1), nats, on {self.images} "
                "held-out images; ± standard error over them at the highest place. Optimism: how "
                "much of the height comes of choosing that place on the same images. "
                f"{self._statistics}"
            ),
            columns=columns,
            rows=tuple(
                (c.start, c.end, c.group, known(c.distance), *map(known, c.ends))
                + tuple(known(v) for v in (c.anew.height, c.anew.error, c.anew.optimism))
                + (known(c.interpolated.height), known(c.interpolated.error))
                + (known(c.interpolated.optimism),)
                for c in self.crossings
            ),
            name="barrier",
        )


def ways(study: Study) -> dict[tuple[Run, Run], str]:
    """(baseline, other) of one architecture -> the group it belongs to."""
    with_seed = {run.seed: run for run in reversed(study.baselines) if run.seed is not None}
    found = {(baseline, student): student.arm for student, baseline in study.pairs()}
    found |= {(with_seed[c.seed], c): c.arm for c in study.controls if c.seed in with_seed}
    first = next(iter(arms_of(study.runs, "baseline").values()), [])
    ring = list(zip(first, first[1:] + first[:1], strict=True)) if len(first) > 2 else []
    found |= {pair: REFERENCE for pair in ring or combinations(first, 2)}
    return {
        (one, two): group
        for (one, two), group in found.items()
        if one.entry.network == two.entry.network
    }


@metric(
    "barrier",
    title="Loss barriers",
    question="Is there a hill between the student and its baseline?",
    source="Frankle et al. 2020, arXiv:1912.05671, section 2; statistics found anew as in "
    "Jordan et al. 2023, arXiv:2211.08403",
    better="neither",
    range=(0.0, float("inf")),
    ranged=("height",),
    place=71,
)
def barrier(
    study: Study, scope: Scope, *, images: int = 256, points: int = 11
) -> Inquiry[Barriers]:
    """Barrier = max over t in [0, 1] of L(w(t)) - (1 - t) L(w(0)) - t L(w(1)), nats.

    w(t) = (1 - t) w_0 + t w_1 between the baseline (0) and the student or control of its seed (1),
    at the last epoch that the learners share, at `points` places; the reference are baselines of
    two seeds. L is the mean cross-entropy over one half of the images. BatchNorm's statistics are
    found anew at every place (the ends too) on the other half, without labels; the number with
    interpolated statistics stands beside. Only between networks of one architecture.
    """
    if points < 3:
        raise UsageError(f"setting barrier.points is {points}; wanted at least 3")
    wanted = ways(study)
    if not wanted:
        raise NotApplicable(
            "needs a baseline and another learner of one architecture and seed, or baselines of "
            "two seeds; this study has none"
        )
    scope.enough("barrier", images, FEWEST)
    asked = {
        pair: sight("path", *(study.final(run) for run in pair), images=images, points=points)
        for pair in wanted
    }
    seen = yield list(asked.values())
    found, reasons = answered(seen, asked)
    crossings, above = [], []
    for (one, two), path in found.items():
        high = {k: heights(path["steps"], path[k]) for k in ("anew", "interpolated")}
        ends = path["anew"][[0, -1]].mean(1)
        crossings.append(
            Crossing(
                group=wanted[one, two],
                role=two.role,
                start=one.id,
                end=two.id,
                distance=float(path["distance"]),
                ends=(float(ends[0]), float(ends[1])),
                anew=hill(high["anew"]),
                interpolated=hill(high["interpolated"]),
            )
        )
        above.append(high["anew"].mean(1))
    some = next(iter(found.values()))
    count = some["anew"].shape[1]
    return Barriers(count, int(some["norms"]), some["steps"], crossings, above, reasons)
