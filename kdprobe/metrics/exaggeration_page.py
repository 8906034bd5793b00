"""What is told of exaggerated confidence?  The lines of the runs, and their panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdprobe.metrics.answers import cell
from kdprobe.metrics.contract import Array, Roles, arm_series, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Lines, Panel, Series, Table
from kdprobe.stats import Difference


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error over images, and what each image has to do with it."""

    value: float
    error: float
    by_image: Array = page_only()  # (n,) mean = the value, error of the mean = its error


@dataclass(frozen=True)
class Straight:
    """The line by least squares through one network's log-odds over the teacher's."""

    run: str
    role: str
    arm: str
    slope: Estimate
    intercept: Estimate  # log-odds where the teacher's are 0
    correlation: Estimate
    spread: Estimate  # standard deviation of ours over that of the teacher's


@dataclass(frozen=True)
class Exaggeration:
    """Baselines, students and controls over the teacher."""

    images: int
    runs: Sequence[Straight]
    above_one: Mapping[str, Difference]  # arm: slope less 1
    effects: Mapping[str, Difference]  # arm: student minus baseline
    lost: Sequence[str]
    roles: Roles = page_only()
    x: Array = page_only()  # (b,) teacher's log-odds, means of bins of equally many images
    binned: Mapping[str, Array] = page_only()  # run -> (b,)

    def panels(self) -> list[Panel]:
        shown = [self._figure()]
        if not self.effects:
            return [*shown, self._table()]
        reading = "Right of the line: confidence grows more steeply with the teacher's."
        return [*shown, forest("Slope", "slope", self.effects, reading), self._table()]

    def findings(self) -> list[str]:
        """Student arms that are surer than the teacher the surer it is."""
        students = {run.arm for run in self.runs if run.role == "student"}
        return [
            f"{arm} exaggerates its teacher's confidence: its log-odds grow "
            f"{1 + found.effect:.2f} times as fast (95% interval {1 + found.low:.2f} to "
            f"{1 + found.high:.2f}; 1 is faithful)"
            for arm, found in self.above_one.items()
            if arm in students and found.low > 0
        ]

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost

    def _figure(self) -> Lines:
        ends = (float(self.x[0]), float(self.x[-1]))
        return Lines(
            title="Log-odds of the teacher's answer",
            how_to_read=(
                f"Means in {len(self.x)} bins of equally many images; bands span the seeds. "
                "Steeper than the line of equal confidence: exaggerated. A line above it "
                "is surer throughout."
            ),
            x_label="teacher's log-odds (nats)",
            y_label="network's log-odds (nats)",
            series=(
                *arm_series(self.roles, self.x, self.binned),
                Series(name="as the teacher", x=ends, y=ends, role="reference"),
            ),
        )

    def _table(self) -> Table:
        rows = tuple(
            (r.run, r.role)
            + tuple(
                cell(number, 3)
                for one in (r.slope, r.intercept, r.correlation, r.spread)
                for number in (one.value, one.error)
            )
            for r in self.runs
        )
        return Table(
            title="Confidence over the teacher's",
            how_to_read=(
                f"On {self.images} held-out images; ± is a standard error over images that "
                "allows for unequal scatter. Slope 1 and intercept 0: as sure as the teacher, on "
                "the average. Slope = correlation × spread (ours over the teacher's): a network "
                "that follows the teacher loosely has a small slope however sure it is, so read "
                "the baseline's beside it. The teacher's log-odds are known without error, so "
                "noise in them does not flatten the line."
            ),
            columns=("run", "role", "slope", "± slope", "intercept (nats)", "± nats")
            + ("correlation", "± correlation", "spread", "± spread"),
            rows=rows,
            name="exaggeration",
        )
