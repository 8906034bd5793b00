"""Do baseline and students lie in one basin?  The loss over the plane through three networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.contract import Array, Inquiry, Roles, answered, metric, page_only, roles_of
from kdprobe.metrics.ground import error, known, log_loss
from kdprobe.metrics.scope import Scope
from kdprobe.pairing import arms_of
from kdprobe.panels import Panel, Surface, Table, Track
from kdprobe.probes.contract import sight
from kdprobe.study import Run, Study

FEWEST_IMAGES = 4  # half of them for statistics, half for the loss
REFERENCE = "baselines of three seeds"
MIXTURE = np.array(  # (7, 3) shares of the three networks at the probe's places
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [1 / 3] * 3]
)
Three = tuple[Run, Run, Run]


@dataclass(frozen=True)
class Height:
    """The loss of a mean of networks above the mean of their losses."""

    value: float  # nats
    error: float  # standard error over images


@dataclass(frozen=True)
class Triangle:
    """Three networks, and what lies between them."""

    group: str
    runs: tuple[str, str, str]
    loss: tuple[float, float, float]  # of the three, nats
    between: tuple[Height, Height, Height]  # halfway: first and second, first and third, other two
    centre: Height  # the mean of all three
    sides: tuple[float, float, float]  # Euclidean distances, in the order of `between`


@dataclass(frozen=True)
class Basins:
    """The triangles of every seed, and that of the baselines."""

    images: int  # of the half that the loss is taken on
    triangles: Sequence[Triangle]
    roles: Roles = page_only()
    planes: Sequence[tuple[Triangle, Mapping[str, Array]]] = page_only()
    reasons: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.reasons

    def panels(self) -> list[Panel]:
        return [*(self._plane(t, seen) for t, seen in self.planes), self._table()]

    def _plane(self, triangle: Triangle, seen: Mapping[str, Array]) -> Surface:
        return Surface(
            title=f"The plane through {', '.join(triangle.runs)}",
            how_to_read=(
                "Contours of log10 of the cross-entropy on held-out images over the plane that "
                "holds the three marked networks; distances are true. BatchNorm has statistics "
                "found anew at every place, on other images. A ridge between two marks: the "
                "straight way between them leaves the basin."
            ),
            x=tuple(seen["x"].tolist()),
            y=tuple(seen["y"].tolist()),
            z=log_loss(seen["loss"]),
            x_label=f"from {triangle.runs[0]} to {triangle.runs[1]}",
            y_label=f"across, towards {triangle.runs[2]}",
            z_label="log10 nats",
            tracks=tuple(
                Track(name=run, x=(float(x),), y=(float(y),), role=self.roles[run][1])
                for run, (x, y) in zip(triangle.runs, seen["marks"], strict=True)
            ),
        )

    def _table(self) -> Table:
        columns: tuple[str, ...] = (
            "first",
            "second",
            "third",
            "kind",
            "loss 1",
            "loss 2",
            "loss 3",
        )
        columns += ("1-2", "±", "1-3", "± ", "2-3", "±  ", "centre", "±   ")
        return Table(
            title="Heights between three networks",
            how_to_read=(
                "Loss of the mean of the weights of two networks (1-2 ...), or of all three "
                "(centre), less the mean of their losses, nats, on "
                f"{self.images} held-out images; ± standard error over them. At or below 0 the "
                "networks lie in one basin as far as their middle shows. Reference: "
                f"{REFERENCE}, which share neither beginning nor teacher. BatchNorm has statistics "
                "found anew on as many other images, without labels."
            ),
            columns=columns,
            rows=tuple(
                (*t.runs, t.group, *map(known, t.loss))
                + tuple(known(v) for h in (*t.between, t.centre) for v in (h.value, h.error))
                for t in self.triangles
            ),
            name="basins",
        )


def triangle_of(group: str, runs: Three, seen: Mapping[str, Array]) -> Triangle:
    """From losses (7, n) at corners, middles and centre."""
    loss = seen["loss"]
    above = loss - MIXTURE @ loss[:3]
    heights = [Height(float(row.mean()), error(row) or 0.0) for row in above[3:]]
    one, two, three = (float(value) for value in loss[:3].mean(1))
    names = (runs[0].id, runs[1].id, runs[2].id)
    sides = tuple(map(float, seen["sides"]))
    return Triangle(
        group,
        names,
        (one, two, three),
        (heights[0], heights[1], heights[2]),
        heights[3],
        (sides[0], sides[1], sides[2]),
    )


def threes(study: Study) -> dict[Three, str]:
    """Baseline and two other learners of its seed, for every seed; and three baselines.

    Students come in the order of the study, then controls; where a seed has only one of them, the
    third is a baseline of another seed.
    """
    baselines = next(iter(arms_of(study.runs, "baseline").values()), [])
    found: dict[Three, str] = {}
    for baseline in baselines:
        mine = [student for student, partner in study.pairs() if partner == baseline]
        seeded = baseline.seed is not None
        mine += [c for c in study.controls if seeded and c.seed == baseline.seed]
        alike = [run for run in mine if run.entry.network == baseline.entry.network]
        other = [run for run in baselines if run != baseline and _alike(run, baseline)]
        if alike and len(alike + other) > 1:
            second, third = (alike + other)[:2]
            found[baseline, second, third] = f"seed {baseline.seed}" if seeded else "one seed"
    same = [run for run in baselines if _alike(run, baselines[0])]
    if len(same) > 2:
        found[same[0], same[1], same[2]] = REFERENCE
    return found


def _alike(one: Run, other: Run) -> bool:
    return one.entry.network == other.entry.network


@metric(
    "basins",
    title="Basins",
    question="Do baseline and students lie in one basin?",
    source="Garipov et al. 2018, arXiv:1802.10026, section 3 (the plane of three networks)",
    better="neither",
    range=(0.0, float("inf")),
    ranged=("loss", "sides"),
    place=73,
)
def basins(study: Study, scope: Scope, *, images: int = 128, points: int = 13) -> Inquiry[Basins]:
    """The affine plane w_1 + x e_1 + y e_2 through a baseline and two students of its seed.

    e_1, e_2 by Gram and Schmidt from w_2 - w_1 and w_3 - w_1, Euclidean over parameters, at the
    last epoch that the learners share. Heights for every seed: L(mean of the weights) - mean of the
    L, of each two and of all three; the plane itself for the first seed, and as the reference for
    baselines of three seeds. L is the mean cross-entropy over one half of the images, BatchNorm's
    statistics are found anew at every place on the other half, without labels.
    """
    if points < 2:
        raise UsageError(f"setting basins.points is {points}; wanted at least 2")
    wanted = threes(study)
    if not wanted:
        raise NotApplicable(
            "needs a baseline and two other learners of its architecture, one of them of its seed, "
            "or baselines of three seeds; this study has none"
        )
    scope.enough("basins", images, FEWEST_IMAGES)
    finals = {three: [study.final(run) for run in three] for three in wanted}
    asked = {three: sight("triangle", *finals[three], images=images) for three in wanted}
    shown = {next(iter(wanted)), *(three for three, group in wanted.items() if group == REFERENCE)}
    planes = {
        three: sight("triangle_plane", *finals[three], images=images, points=points)
        for three in wanted
        if three in shown
    }
    seen = yield [*asked.values(), *planes.values()]
    found, lost = answered(seen, asked)
    around, lost_too = answered(seen, planes)
    triangles = {three: triangle_of(wanted[three], three, one) for three, one in found.items()}
    return Basins(
        images=next(iter(found.values()))["loss"].shape[1],
        triangles=list(triangles.values()),
        roles=roles_of(study.runs),
        planes=[(triangles[three], plane) for three, plane in around.items() if three in triangles],
        reasons=list(dict.fromkeys(lost + lost_too)),
    )
