"""Which way did the training go?  Its path through the space of weights, on its principal plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    Seen,
    answered,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.effects import forest, over_seeds
from kdprobe.metrics.ground import known, log_loss
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Panel, Surface, Table, Track
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import Difference
from kdprobe.study import Run, Study

FEWEST = 3  # checkpoints that can span a plane
FEWEST_IMAGES = 4  # half of them for statistics, half for the loss


def walk_at_random(lengths: Array) -> tuple[Array, float]:
    """Explained parts and straightness of a random walk with steps of these `lengths` (k - 1,).

    In many dimensions its steps are at right angles to each other, so nothing is left to chance:
    the inner products of its points are G_ij = sum of the squared lengths up to min(i, j). Of k
    equal steps the first part goes to 6 / pi^2 = 0.61 with k.
    """
    way = np.concatenate([[0.0], np.cumsum(lengths**2)])
    products = np.minimum(way[:, None], way[None])
    centred = products - products.mean(0) - products.mean(1, keepdims=True) + products.mean()
    values = np.maximum(np.linalg.eigvalsh(centred)[::-1], 0.0)[:-1]
    return values / values.sum(), float(np.sqrt(way[-1]) / lengths.sum())


@dataclass(frozen=True)
class Way:
    """The path of one training."""

    checkpoints: int
    parts: tuple[float, float]  # of the variance of its checkpoints, by the first two components
    chance_parts: tuple[float, float]  # of a random walk with steps of the same lengths
    length: float  # sum of the steps between checkpoints, Euclidean over parameters
    displacement: float  # from the first to the last
    straightness: float  # displacement / length
    chance_straightness: float


@dataclass(frozen=True)
class Plane:
    """The loss around the path of one training."""

    x: Array  # (p,)
    y: Array  # (p,)
    loss: Array  # (p, p) nats, rows = y
    marks: Array  # (k, 2)
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Trajectories:
    """The paths of all learners."""

    runs: Mapping[str, Way]
    effects: Mapping[str, Difference]  # student arm -> straightness, student minus baseline
    images: int = page_only()
    roles: Roles = page_only()
    planes: Mapping[str, Plane] = page_only()
    short: Sequence[str] = page_only()  # runs with too few checkpoints
    reasons: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.reasons

    def panels(self) -> list[Panel]:
        compared: list[Panel] = []
        if self.effects:
            reading = "Above 0 the student's path is straighter than the baseline's."
            title = "Straightness of the path"
            compared = [forest(title, "displacement / length", self.effects, reading)]
        return [*(self._plane(run) for run in self.planes), *compared, self._table()]

    def _plane(self, run: str) -> Surface:
        plane, way = self.planes[run], self.runs[run]
        return Surface(
            title=f"The way of {run}",
            how_to_read=(
                "Contours of log10 of the cross-entropy on held-out images, over the plane through "
                "the last checkpoint along the first two principal components of all checkpoints, "
                f"which explain {way.parts[0]:.0%} and {way.parts[1]:.0%} of their variance; a "
                f"random walk with such steps has {way.chance_parts[0]:.0%} and "
                f"{way.chance_parts[1]:.0%}, so a high share alone means little. Checkpoints are "
                "projected: only the last one lies in the plane. BatchNorm has statistics found "
                "anew at every place, on other images. Every run has its own plane."
            ),
            x=tuple(plane.x.tolist()),
            y=tuple(plane.y.tolist()),
            z=log_loss(plane.loss),
            x_label=f"first component ({way.parts[0]:.0%})",
            y_label=f"second component ({way.parts[1]:.0%})",
            z_label="log10 nats",
            tracks=(
                Track(
                    name=run,
                    x=tuple(plane.marks[:, 0].tolist()),
                    y=tuple(plane.marks[:, 1].tolist()),
                    labels=tuple(map(str, plane.epochs)),
                    role=self.roles[run][1],
                ),
            ),
        )

    def _table(self) -> Table:
        short = f" Fewer than {FEWEST} checkpoints: {', '.join(self.short)}." if self.short else ""
        columns: tuple[str, ...] = (
            "run",
            "checkpoints",
            "first %",
            "by chance %",
            "second %",
            "by chance % ",
        )
        columns += ("length", "displacement", "straightness", "by chance")
        return Table(
            title="Paths of training",
            how_to_read=(
                "First and second: part of the variance of a run's checkpoints that its two "
                "principal components explain. By chance: the same of a random walk in many "
                "dimensions with as many steps of the same lengths (Antognini and Sohl-Dickstein "
                "2018); no error, for nothing is drawn. Straightness: displacement / length, 1 on "
                f"a line.{short}"
            ),
            columns=columns,
            rows=tuple(
                (run, w.checkpoints, known(100 * w.parts[0], 1), known(100 * w.chance_parts[0], 1))
                + (known(100 * w.parts[1], 1), known(100 * w.chance_parts[1], 1))
                + (known(w.length, 3), known(w.displacement, 3), known(w.straightness))
                + (known(w.chance_straightness),)
                for run, w in self.runs.items()
            ),
            name="trajectory",
        )


def way_of(seen: Mapping[str, Array]) -> Way:
    """From what the probe saw of one run."""
    lengths, total = seen["lengths"], float(seen["lengths"].sum())
    chance, straight = walk_at_random(lengths)
    displacement = float(seen["displacement"])
    return Way(
        checkpoints=len(lengths) + 1,
        parts=(float(seen["parts"][0]), float(seen["parts"][1])),
        chance_parts=(float(chance[0]), float(chance[1])),
        length=total,
        displacement=displacement,
        straightness=min(displacement / total, 1.0),
        chance_straightness=straight,
    )


def _around(
    seen: Seen, planes: Mapping[Run, Sight]
) -> tuple[dict[Run, Mapping[str, Array]], list[str]]:
    """The planes that were seen, and why others were not: the paths stand without any."""
    try:
        return answered(seen, planes)
    except Refused as answer:
        return {}, [answer.reason]


@metric(
    "trajectory",
    title="Paths of training",
    question="Which way did each training go?",
    source="Li et al. 2018, arXiv:1712.09913, section 7; chance: Antognini and Sohl-Dickstein "
    "2018, arXiv:1806.08805",
    better="neither",
    range=(0.0, 1.0),
    ranged=("parts", "chance_parts", "straightness", "chance_straightness"),
    place=72,
)
def trajectory(
    study: Study, scope: Scope, *, images: int = 128, points: int = 11
) -> Inquiry[Trajectories]:
    """PCA of a run's checkpoints: explained parts, straightness, and the loss on the plane.

    The parts are lambda_i / sum lambda of the covariance of the checkpoints' parameters about their
    mean; straightness |w_last - w_first| / sum |w_(j+1) - w_j|. The plane, for the first seed of
    every arm, goes through the last checkpoint along the first two components; its loss is taken on
    one half of the images, with BatchNorm statistics found anew on the other half, without labels.
    All checkpoints of a run are used. Students minus baseline of the same seed: straightness.
    """
    if points < 2:
        raise UsageError(f"setting trajectory.points is {points}; wanted at least 2")
    runs = [run for run in study.learners if len(run.checkpoints) >= FEWEST]
    if not runs:
        raise NotApplicable(
            f"needs a learner with at least {FEWEST} checkpoints; found at most "
            f"{max((len(run.checkpoints) for run in study.learners), default=0)}"
        )
    count = scope.enough("trajectory", images, FEWEST_IMAGES)
    asked = {run: sight("route", *run.checkpoints) for run in runs}
    first = [one for arm in study.arms.values() for one in arm if one in asked]
    shown = {run.arm: run for run in reversed(first)}
    planes = {
        run: sight("route_plane", *run.checkpoints, images=images, points=points)
        for run in reversed(shown.values())
    }
    seen = yield [*asked.values(), *planes.values()]
    routes, lost = answered(seen, asked)
    around, lost_too = _around(seen, planes)
    ways = {run.id: way_of(route) for run, route in routes.items()}
    return Trajectories(
        runs=ways,
        effects=over_seeds(study, {run: way.straightness for run, way in ways.items()}),
        images=count,
        roles=roles_of(study.runs),
        planes={
            run.id: Plane(p["x"], p["y"], p["loss"], p["marks"], run.epochs)
            for run, p in around.items()
            if run.id in ways
        },
        short=[run.id for run in study.learners if run not in runs],
        reasons=list(dict.fromkeys(lost + lost_too)),
    )
