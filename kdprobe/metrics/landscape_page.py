"""What the ground around networks is like: numbers of a landscape, and how a page shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdprobe.metrics.contract import Array, Roles, arm_series, page_only
from kdprobe.metrics.effects import forest
from kdprobe.metrics.ground import curvature, error, known, log_loss, negative, roughness, sharpness
from kdprobe.panels import Forest, Lines, Panel, Surface, Table
from kdprobe.stats import Difference

UNIT = {
    "filter": "1 is a step in which every filter moves by its own length",
    "layer": "1 is a step in which every layer moves by its own length",
    "none": "1 is a step as long as all weights together",
}
EFFECTS = {
    "sharpness": "largest rise (nats)",
    "negative": "share of negative curvature",
    "roughness": "roughness",
}


@dataclass(frozen=True)
class Ground:
    """The loss around one network; ± standard errors over directions, None of a single one."""

    line: Array  # (r, p) nats along each random direction
    centre: float  # loss at the network itself, nats
    curvature: float  # central difference a grid step wide, nats per squared step
    curvature_error: float | None
    sharpness: float  # largest rise of a plane within the radius, nats
    sharpness_error: float | None
    negative: float  # share of a plane's points that curve downwards
    negative_error: float | None
    roughness: float  # mean |second difference| / mean |first difference|; NaN where it is flat
    roughness_error: float | None
    pairs: int
    off: float  # relative error of the loss at the places where it was checked


@dataclass(frozen=True)
class Landscape:
    """The loss around every network."""

    images: int
    steps: Array  # (p,)
    runs: Mapping[str, Ground]
    effects: Mapping[str, Mapping[str, Difference]]  # scalar -> student arm
    within: float  # the radius of the sharpness
    normalisation: str = page_only()
    networks: Mapping[str, str] = page_only()  # run -> its architecture
    roles: Roles = page_only()
    planes: Mapping[str, tuple[Array, Array]] = page_only()  # run -> steps (p,), loss (p, p)
    reasons: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.reasons

    def panels(self) -> list[Panel]:
        planes = [self._plane(run) for run in self.planes]
        compared: list[Panel] = [self._forest(), self._effects()]
        if not self.effects["sharpness"]:
            compared = []
        return [self._lines(), *planes, *compared, self._table()]

    def _lines(self) -> Lines:
        means = {run: ground.line.mean(0) for run, ground in self.runs.items()}
        return Lines(
            title="Loss along random directions",
            how_to_read=(
                f"Cross-entropy on {self.images} held-out images, mean over directions; the band "
                f"spans the seeds. 0 is the network itself, {UNIT[self.normalisation]}. Only "
                "networks of one architecture compare."
            ),
            x_label="step",
            y_label="cross-entropy (nats)",
            log_y=True,
            series=arm_series(self.roles, self.steps, means),
        )

    def _plane(self, run: str) -> Surface:
        steps, loss = self.planes[run]
        return Surface(
            title=f"Loss around {run}",
            how_to_read=(
                "Contours of log10 of the cross-entropy over the first pair of random directions, "
                "the same draw for networks of one architecture; the network is at the centre, "
                f"{UNIT[self.normalisation]}."
            ),
            x=tuple(steps.tolist()),
            y=tuple(steps.tolist()),
            z=log_loss(loss),
            x_label="first direction",
            y_label="second direction",
            z_label="log10 nats",
        )

    def _forest(self) -> Forest:
        return forest(
            f"Largest rise within {self.within:g} of the network",
            EFFECTS["sharpness"],
            self.effects["sharpness"],
            "Above 0 the student lies in steeper ground. Directions are the same draws for both; "
            "networks of other architectures are left out.",
        )

    def _effects(self) -> Table:
        rows = tuple(
            (arm, EFFECTS[name], *(known(v) for v in (d.effect, d.low, d.high)), d.seeds)
            for name, found in self.effects.items()
            for arm, d in found.items()
        )
        return Table(
            title="Student minus baseline",
            how_to_read=(
                "Of the same seed, along the same draws; 95% interval over seeds, none below "
                "three. The baseline never saw the teacher: 0 is no difference."
            ),
            columns=("arm", "of the planes", "difference", "from", "to", "seeds"),
            rows=rows,
            name="landscape_effects",
        )

    def _table(self) -> Table:
        width = float(self.steps[1] - self.steps[0])
        off = max(ground.off for ground in self.runs.values())
        return Table(
            title="Curvature, sharpness and roughness",
            how_to_read=(
                "Means over the random directions, or pairs of them, that were drawn, ± their "
                "standard error. Curvature: of the lines, a central difference at the step width, "
                f"{width:.3g}. Sharpness: the largest rise within {self.within:g} at a plane's "
                "points; a steeper way may lie between. Negative: share of a plane's points where "
                "it curves downwards by more than 5% of its other curvature; of random planes, not "
                "of the full Hessian. Roughness: mean |second| / mean |first| difference. All "
                f"depend on the grid. The loss, where checked, is off by at most {off:.1e} of "
                "itself. Compare networks of one architecture only."
            ),
            columns=("run", "network", "loss", "curvature", "±", "sharpness", "± ")
            + ("negative", "±  ", "roughness", "±   ", "pairs"),
            rows=tuple(
                (run, self.networks[run])
                + tuple(known(v) for v in (g.centre, g.curvature, g.curvature_error))
                + tuple(known(v) for v in (g.sharpness, g.sharpness_error))
                + tuple(known(v) for v in (g.negative, g.negative_error))
                + (known(g.roughness), known(g.roughness_error), g.pairs)
                for run, g in self.runs.items()
            ),
            name="landscape",
        )


def ground(line: Mapping[str, Array], plane: Mapping[str, Array], within: float) -> Ground:
    """What the lines and planes of one network say."""
    steps, off = line["steps"], float(max(line["off"], plane["off"]))
    bend = curvature(steps, line["loss"])
    up = sharpness(plane["steps"], plane["loss"], within)
    down, rough = negative(plane["loss"], off), roughness(plane["loss"])
    return Ground(
        line=line["loss"],
        centre=float(line["loss"][0, len(steps) // 2]),
        curvature=float(bend.mean()),
        curvature_error=error(bend),
        sharpness=float(up.mean()),
        sharpness_error=error(up),
        negative=float(down.mean()),
        negative_error=error(down),
        roughness=float(rough.mean()),
        roughness_error=error(rough),
        pairs=len(up),
        off=off,
    )
