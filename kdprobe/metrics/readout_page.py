"""What is said of linear read-out on the page?  The result of the metric `readout`, as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Lines, Panel, Series, Table
from kdprobe.stats import Difference, mean_of_defined


@dataclass(frozen=True)
class Layers:
    """What is read from the layers of one network, from input to output. NaN = not defined."""

    layers: Sequence[str]  # (l,)
    widths: Sequence[int]  # (l,) features that the reader is given
    accuracy: Array  # (l,) of a linear probe of the class, out of fold
    accuracy_error: Array  # (l,) standard error over images
    null: Array  # (l,) the same for permuted labels
    r2: Array  # (l, l) of the layer of the column from the layer of the row; NaN if not later
    r2_error: Array  # (l, l) standard error over images
    r2_null: Array  # (l, l) the same for permuted rows

    @property
    def foreseen(self) -> float:
        """Mean R^2 over all pairs of an earlier and a later layer."""
        return float(mean_of_defined(self.r2.flatten()))

    @property
    def knows_order(self) -> bool:
        """Whether any layer comes after another."""
        return bool(np.isfinite(self.foreseen))

    @property
    def next_r2(self) -> Array:
        """(l - 1,) R^2 of each layer from the one before it."""
        return np.diagonal(self.r2, 1)


@dataclass(frozen=True)
class Readout:
    """What is read from the layers of every network."""

    images: int
    folds: int
    runs: Mapping[str, Layers]
    gains: Mapping[str, Difference]  # probe accuracy, student minus baseline, by arm and layer
    r2_gains: Mapping[str, Difference]  # mean R^2 over pairs, alike, by arm
    reasons: Sequence[str]
    roles: Roles = page_only()

    def lacking(self) -> Sequence[str]:
        return self.reasons

    def panels(self) -> list[Panel]:
        figures = [self._probes(), self._next()]
        gains = [self._gains()] if self.gains else []
        return [*(f for f in figures if f.series), *gains, self._accuracies(), self._r2()]

    def _series(self, field: str, start: int) -> tuple[Series, ...]:
        """A line an arm, of runs with the same layers; layers without a value left out."""
        found: list[Series] = []
        for runs in by_arm(self.roles, self.runs).values():
            first = tuple(self.runs[runs[0]].layers)
            alike = [run for run in runs if tuple(self.runs[run].layers) == first]
            rows = {run: getattr(self.runs[run], field) for run in alike}
            known = np.isfinite(np.stack(list(rows.values()))).all(0)
            if known.any():
                x = np.arange(start, start + len(known))[known]
                found += arm_series(self.roles, x, {r: row[known] for r, row in rows.items()})
        return tuple(found)

    def _names(self) -> tuple[str, ...]:
        """Names of the layers, where all networks have the same."""
        layers = {tuple(at.layers) for at in self.runs.values()}
        return layers.pop() if len(layers) == 1 else ()

    def _axis(self) -> str:
        return "layer" if self._names() else "layer, in order (names in the table)"

    def _probes(self) -> Lines:
        null = np.mean([at.null.mean() for at in self.runs.values()])
        return Lines(
            title="Linear probes of the class",
            how_to_read=(
                f"Accuracy on held-out images by {self.folds}-fold cross-validation over "
                f"{self.images}; with permuted labels it is {null:.3f} on average. The band spans "
                "the seeds. Narrow layers tell less to a linear reader: compare networks of one "
                "architecture, and students with the baseline, which never saw the teacher."
            ),
            x_label=self._axis(),
            x_names=self._names(),
            y_label="probe accuracy (share of images)",
            series=self._series("accuracy", 1),
        )

    def _next(self) -> Lines:
        return Lines(
            title="Each layer from the one before it",
            how_to_read=(
                "Out-of-fold R^2 of a linear regression: 1 = the layer only re-mixes what was "
                "there, 0 = no linear reader could have foretold it, which is also the level of "
                "permuted rows."
            ),
            x_label=self._axis(),
            x_names=self._names(),
            y_label="R^2",
            series=self._series("next_r2", 2),
        )

    def _gains(self) -> Panel:
        return forest(
            "Probe accuracy of students and baselines",
            "student minus baseline (share of images)",
            self.gains,
            "Above 0 = the class is read more easily from the student's layer.",
        )

    def _accuracies(self) -> Table:
        rows = tuple(
            (run, layer, at.widths[i], round(100 * float(at.accuracy[i]), 2))
            + (round(100 * float(at.accuracy_error[i]), 2), round(100 * float(at.null[i]), 2))
            for run, at in self.runs.items()
            for i, layer in enumerate(at.layers)
        )
        return Table(
            title="Probes",
            how_to_read=(
                "± is one standard error over images; that of the folds' own fits is not in it. "
                "Null: the same probe for permuted labels."
            ),
            columns=("run", "layer", "features", "accuracy %", "±", "null %"),
            rows=rows,
            name="readout",
        )

    def _r2(self) -> Table:
        rows = tuple(
            (run, at.layers[i], at.layers[j])
            + tuple(_known(side[i, j]) for side in (at.r2, at.r2_error, at.r2_null))
            for run, at in self.runs.items()
            for i in range(len(at.layers))
            for j in range(i + 1, len(at.layers))
        )
        return Table(
            title="Later layers from earlier ones",
            how_to_read=(
                "Out-of-fold R^2 of a ridge regression of the later layer's features from the "
                "earlier one's; ± is one standard error over images. Null: the same with permuted "
                "rows. Below 0 = worse than the mean."
            ),
            columns=("run", "earlier", "later", "R^2", "±", "null"),
            rows=rows,
            name="readout_r2",
        )


def _known(value: float) -> float | None:
    return round(float(value), 4) + 0.0 if np.isfinite(value) else None  # and no -0.0
