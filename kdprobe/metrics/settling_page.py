"""What is said of settling on the page?  The result of the metric `settling`, as panels.

Axes: l layers, k checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Heatmap, Panel, Table
from kdprobe.stats import FEWEST_SEEDS, Difference, mean_of_defined


@dataclass(frozen=True)
class Course:
    """How one network's layers come to be what they are at the end."""

    layers: Sequence[str]  # (l,)
    alike: Array  # (l, k) CKA with the last checkpoint
    error: Array  # (l, k) standard error
    settled: Array  # (l,) epoch from which CKA stays at the level; NaN without CKA
    earliest: Array  # (l,) the same of CKA plus two standard errors
    latest: Array  # (l,) and of CKA minus two
    own: Array  # (l,) epoch from which it is as like its end as another seed's end is

    @property
    def named(self) -> dict[str, float]:
        return dict(zip(self.layers, self.settled.tolist(), strict=True))


@dataclass(frozen=True)
class Kinship:
    """How alike the last networks of different seeds are."""

    layers: Sequence[str]  # (l,)
    alike: Array  # (l,) mean CKA over pairs of seeds
    error: Array  # (l,) standard error


@dataclass(frozen=True)
class Settling:
    """When the layers of every network settle."""

    variant: str
    images: int
    level: float
    epochs: Sequence[int]  # (k,)
    runs: Mapping[str, Course]
    between_seeds: Mapping[str, Kinship]  # arm
    later: Mapping[str, Difference]  # "arm, layer" -> student minus baseline, epochs
    maps: Mapping[str, Array] = page_only()  # run -> (k, k) CKA, mean over layers
    roles: Roles = page_only()
    refused: Sequence[str] = page_only()

    def panels(self) -> list[Panel]:
        arms = by_arm(self.roles, self.runs)
        found: list[Panel] = [self._courses(arm, runs) for (arm, _), runs in arms.items()]
        found += [self._map(arm, runs) for (arm, _), runs in arms.items()]
        if self.later:
            found.append(
                forest(
                    f"When layers settle at {self.level:g}, against the baseline",
                    "epochs",
                    self.later,
                    "Above 0: the student's layer settles later. Epochs are those of checkpoints.",
                )
            )
        return [*found, self._by_arm(), self._by_run()]

    def lacking(self) -> list[str]:
        """Networks that could not be looked at."""
        return list(self.refused)

    def _courses(self, arm: str, runs: Sequence[str]) -> Heatmap:
        return self._heatmap(
            f"Layers of {arm} on their way",
            f"CKA of every checkpoint with the last: 1 = the geometry of the end ({self.variant}).",
            np.mean([self.runs[run].alike for run in self._same(runs)], axis=0),
            tuple(self.runs[runs[0]].layers),
            row_label="layer",
        )

    def _map(self, arm: str, runs: Sequence[str]) -> Heatmap:
        return self._heatmap(
            f"Checkpoints of {arm} against each other",
            "CKA of the same layer at two epochs, mean over layers and seeds: a bright block is a "
            "time in which little changes.",
            np.mean([self.maps[run] for run in runs], axis=0),
            tuple(map(str, self.epochs)),
            row_label="epoch",
        )

    def _heatmap(
        self, title: str, reading: str, values: Array, rows: tuple[str, ...], *, row_label: str
    ) -> Heatmap:
        return Heatmap(
            title=title,
            how_to_read=reading,
            values=tuple(tuple(_known(x) for x in row) for row in values),
            rows=rows,
            columns=tuple(map(str, self.epochs)),
            row_label=row_label,
            column_label="epoch",
            low=0.0,
            high=1.0,
        )

    def _same(self, runs: Sequence[str]) -> list[str]:
        """Those with the layers of the first."""
        return [run for run in runs if self.runs[run].layers == self.runs[runs[0]].layers]

    def _by_arm(self) -> Table:
        arms = by_arm(self.roles, self.runs)
        return Table(
            title=f"Epoch from which CKA with the end stays at {self.level:g} or above",
            how_to_read=(
                f"Mean over seeds; low and high: its 95% interval, from {FEWEST_SEEDS} seeds on. "
                f"{self.epochs[-1]} is the last checkpoint: not seen to settle. First and "
                "end: CKA of the first checkpoint with the last. Between seeds: CKA of the "
                "last networks of two seeds, ± one standard error; a layer is its own from the "
                "epoch at which it is as like its end as another seed's end is."
            ),
            columns=("arm", "layer", "settled", "low", "high", "seeds", "first and end")
            + ("between seeds", "±", "its own from"),
            rows=tuple(row for (arm, _), runs in arms.items() for row in self._arm_rows(arm, runs)),
            name="settling_arms",
        )

    def _arm_rows(self, arm: str, runs: Sequence[str]) -> list[tuple[Cell, ...]]:
        rows: list[tuple[Cell, ...]] = []
        kin = self.between_seeds.get(arm)
        for place, layer in enumerate(self.runs[runs[0]].layers):
            at = [self.runs[run] for run in self._same(runs)]
            epochs = np.array([course.settled[place] for course in at])
            first = np.array([course.alike[place, 0] for course in at])
            own = np.array([course.own[place] for course in at])
            like = (kin.alike[place], kin.error[place]) if kin else (np.nan, np.nan)
            rows.append(
                (arm, layer, *(_known(x, 2) for x in over_runs(epochs)))
                + (int(np.isfinite(epochs).sum()), _known(float(mean_of_defined(first))))
                + (*map(_known, like), _known(float(mean_of_defined(own)), 2))
            )
        return rows

    def _by_run(self) -> Table:
        rows = tuple(
            (
                run,
                layer,
                *(_known(values[place]) for values in (at.settled, at.earliest, at.latest)),
            )
            for run, at in self.runs.items()
            for place, layer in enumerate(at.layers)
        )
        return Table(
            title="When each run's layers settle",
            how_to_read=(
                "Earliest and latest: the epochs of CKA plus and minus two standard errors. A "
                "layer that gives every image the same features has no epoch."
            ),
            columns=("run", "layer", "settled", "earliest", "latest"),
            rows=rows,
            name="settling",
        )


def over_runs(values: Array) -> tuple[float, float, float]:
    """Mean of (r,) numbers and its 95% interval by Student's t; NaN below three."""
    from scipy.special import stdtrit

    known = values[np.isfinite(values)]
    if len(known) < FEWEST_SEEDS:
        return float(mean_of_defined(values)), float("nan"), float("nan")
    reach = float(stdtrit(len(known) - 1, 0.975)) * known.std(ddof=1) / len(known) ** 0.5
    return known.mean(), known.mean() - reach, known.mean() + reach


def _known(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
