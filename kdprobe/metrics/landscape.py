"""How flat is the ground?  Loss along filter-normalised random directions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import UsageError
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    arm_series,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Lines, Panel, Surface, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Study

TINY = 1e-6  # nats: a loss of exactly 0 still has a logarithm


def curvature(steps: Array, loss: Array) -> Array:
    """(r,) second derivative of every line (r, p) at its middle, by central differences."""
    middle = len(steps) // 2
    width = steps[middle + 1] - steps[middle]
    second = loss[:, middle + 1] - 2 * loss[:, middle] + loss[:, middle - 1]
    return np.asarray(second / width**2)


def rise(steps: Array, loss: Array, radius: float) -> Array:
    """(r,) the largest loss within `radius` of the middle, less the loss there."""
    near = np.abs(steps) <= radius + 1e-9
    return np.asarray(loss[:, near].max(1) - loss[:, len(steps) // 2])


@dataclass(frozen=True)
class Ground:
    """The loss around one network at the end of its training."""

    line: Array  # (r, p) nats along each random direction
    centre: float  # loss at the network itself, nats
    curvature: float  # central difference a grid step wide, nats per squared filter norm, mean
    curvature_error: float  # standard error over directions
    sharpness: float  # largest rise seen within half a filter norm, nats, mean over directions
    sharpness_error: float


@dataclass(frozen=True)
class Landscape:
    """The loss around every network."""

    images: int
    steps: Array  # (p,) filter norms
    runs: Mapping[str, Ground]
    roles: Roles = page_only()
    planes: Mapping[str, tuple[Array, Array]] = page_only()  # run -> steps (p,), loss (p, p)

    def panels(self) -> list[Panel]:
        planes = [self._plane(run) for run in self.planes]
        return [self._lines(), *planes, self._table()]

    def _lines(self) -> Lines:
        means = {run: ground.line.mean(0) for run, ground in self.runs.items()}
        return Lines(
            title="Loss along random directions",
            how_to_read=(
                f"Cross-entropy on {self.images} held-out images, mean over directions; the band "
                "spans the seeds. 0 is the network itself, 1 a step as long as its filters."
            ),
            x_label="step (filter norms)",
            y_label="cross-entropy (nats)",
            log_y=True,
            series=arm_series(self.roles, self.steps, means),
        )

    def _plane(self, run: str) -> Surface:
        steps, loss = self.planes[run]
        return Surface(
            title=f"Loss around {run}",
            how_to_read=(
                "Contours of log10 of the cross-entropy over two random directions, the same draw "
                "for networks of one architecture; the network is at the centre."
            ),
            x=tuple(steps.tolist()),
            y=tuple(steps.tolist()),
            z=tuple(tuple(row) for row in np.log10(np.maximum(loss, TINY)).tolist()),
            x_label="first direction (filter norms)",
            y_label="second direction (filter norms)",
            z_label="log10 nats",
        )

    @property
    def _width(self) -> float:
        """Filter norms from one point to the next."""
        return float(self.steps[1] - self.steps[0])

    def _table(self) -> Table:
        rows = tuple(
            (run, round(g.centre, 4), round(g.curvature, 4), round(g.curvature_error, 4))
            + (round(g.sharpness, 4), round(g.sharpness_error, 4))
            for run, g in self.runs.items()
        )
        return Table(
            title="Curvature and sharpness",
            how_to_read=(
                "Both are means over the random directions that were drawn, ± their standard "
                f"error. Curvature is a central difference at the step width, {self._width:.3g} "
                "filter norms. Sharpness is the largest rise of the loss at the line's points "
                "within half a filter norm; a steeper way may lie between the directions. Filter "
                "normalisation makes networks of one architecture comparable, not networks of "
                "different ones."
            ),
            columns=("run", "loss", "curvature", "±", "sharpness", "± "),
            rows=rows,
            name="landscape",
        )


def _error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _ground(steps: Array, line: Array) -> Ground:
    bend, up = curvature(steps, line), rise(steps, line, 0.5)
    centre = float(line[0, len(steps) // 2])
    return Ground(line, centre, float(bend.mean()), _error(bend), float(up.mean()), _error(up))


def _must_have_a_middle(radius: float, **points: int) -> None:
    if radius <= 0:
        raise UsageError(f"setting landscape.radius is {radius:g}; wanted a number above 0")
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
    range=(float("-inf"), float("inf")),
    ranged=("line",),
    place=70,
)
def landscape(
    study: Study,
    scope: Scope,
    *,
    images: int = 128,
    radius: float = 1.0,
    points: int = 21,
    directions: int = 3,
    plane_points: int = 11,
) -> Inquiry[Landscape]:
    """Cross-entropy along filter-normalised random directions, and over planes of two.

    Lines for every run; planes for the teacher and the first seed of every arm, at the last
    epoch that the learners share,
    BatchNorm with its stored statistics. Curvature is the second central difference at the
    middle, one step wide; sharpness the largest rise at a point within half a filter norm; both
    are means over the directions drawn. The points are odd in number: the network is one of them.
    """
    _must_have_a_middle(radius, points=points, plane_points=plane_points)
    lines = {
        run: sight(
            "slice_1d",
            study.final(run),
            images=images,
            radius=float(radius),
            points=points,
            directions=directions,
        )
        for run in study.runs
    }
    teacher = [study.teacher] if study.teacher else []
    shown = [*teacher, *(runs[0] for runs in study.arms.values())]
    planes = {
        run: sight(
            "slice_2d",
            study.final(run),
            images=images,
            radius=float(radius),
            points=plane_points,
        )
        for run in shown
    }
    seen = yield [*lines.values(), *planes.values()]
    steps = next(iter(seen[line]["steps"] for line in lines.values()))
    return Landscape(
        images=int(seen[next(iter(lines.values()))]["images"]),
        steps=steps,
        runs={run.id: _ground(steps, seen[line]["loss"]) for run, line in lines.items()},
        roles=roles_of(study.runs),
        planes={r.id: (seen[plane]["steps"], seen[plane]["loss"]) for r, plane in planes.items()},
    )
