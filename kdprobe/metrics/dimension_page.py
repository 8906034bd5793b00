"""How dimensions are shown: by depth, against the baseline, and run by run.

Axes: l layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Lines, Panel, Series, Table
from kdprobe.stats import Difference

COLUMNS = {
    "effective_rank": "effective rank",
    "participation": "participation ratio",
    "two_nn": "TwoNN",
    "mle": "MLE",
}


@dataclass(frozen=True)
class DimensionOfRun:
    """One network; all (l,) unless said."""

    layers: Sequence[str]
    widths: Array  # features
    effective_rank: Array  # of the covariance; at most n - 1 and the width
    participation: Array
    two_nn: Array  # intrinsic dimension
    mle: Array
    errors: Array  # (4, l) standard errors over images, of the four above
    gaussian: Array  # (4, l) the same of Gaussian clouds: of equal variances, and of the layer's


@dataclass(frozen=True)
class Dimensions:
    """Teacher and learners."""

    images: int
    k: int
    runs: Mapping[str, DimensionOfRun]
    roles: Roles = page_only()
    shared: Sequence[str] = page_only()  # layers that all networks have
    effects: Mapping[str, Difference] = page_only()  # by arm, measure and layer: log2 of the ratio
    unseen: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.unseen

    def findings(self) -> list[str]:
        """Layers without a geometry."""
        constant = self._constant()
        if not constant:
            return []
        return [f"every image has the same features, so no geometry, in {', '.join(constant)}"]

    def panels(self) -> list[Panel]:
        found: list[Panel] = [self._ranks(), self._intrinsic()]
        if self.effects:
            found.append(
                forest(
                    "Dimension against the baseline",
                    "log2 of student over baseline",
                    self.effects,
                    "Above 0 the student's features spread in more directions (rank), or lie on a "
                    "surface of more dimensions (TwoNN); 1 is twice as many.",
                )
            )
        return [*found, self._table()]

    def _constant(self) -> list[str]:
        return [
            f"{layer} of {run}"
            for run, at in self.runs.items()
            for layer, rank in zip(at.layers, at.effective_rank, strict=True)
            if np.isnan(rank)
        ]

    def _ranks(self) -> Lines:
        return Lines(
            title="Effective rank by depth",
            how_to_read=(
                f"Directions that the features of {self.images} images spread in, at most "
                f"{self.images - 1} and the width of the layer; mean over seeds, and their range. "
                "What a Gaussian of equal variances would show is in the table."
            ),
            x_label="layer",
            x_names=tuple(self.shared),
            y_label="effective rank",
            log_y=True,
            series=self._series("effective_rank"),
        )

    def _intrinsic(self) -> Lines:
        rows = np.stack([at.gaussian[2, self._places(at)] for at in self.runs.values()])
        straight = Series.over_seeds("Gaussians of the same spread", self._depths(), rows, "")
        return Lines(
            title="Intrinsic dimension by depth",
            how_to_read=(
                "Dimension of the surface that the features lie on, by TwoNN; mean over seeds, and "
                "their range. Gaussian clouds with the layers' covariances, all networks together, "
                "show what as many points would give without a curved surface: the estimate is "
                "too low where dimensions are many and images few."
            ),
            x_label="layer",
            x_names=tuple(self.shared),
            y_label="intrinsic dimension (TwoNN)",
            log_y=True,
            series=(*self._series("two_nn"), _without_nan(straight)),
        )

    def _places(self, at: DimensionOfRun) -> list[int]:
        return [at.layers.index(layer) for layer in self.shared]

    def _depths(self) -> list[int]:
        return list(range(1, 1 + len(self.shared)))

    def _series(self, field: str) -> tuple[Series, ...]:
        rows = {run: getattr(at, field)[self._places(at)] for run, at in self.runs.items()}
        return tuple(_without_nan(one) for one in arm_series(self.roles, self._depths(), rows))

    def _table(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for run, at in self.runs.items():
            for place, layer in enumerate(at.layers):
                cells: list[Cell] = [run, layer, int(at.widths[place])]
                for q, field in enumerate(COLUMNS):
                    told = getattr(at, field)[place], at.errors[q, place], at.gaussian[q, place]
                    cells += [_short(value) for value in told]
                rows.append(tuple(cells))
        titles = (
            name
            for title in COLUMNS.values()
            for name in (title, f"± {title}", f"Gaussian {title}")
        )
        constant = self._constant()
        gone = f" No value where features do not vary: {', '.join(constant)}." if constant else ""
        return Table(
            title="Dimensions, run by run",
            how_to_read=(
                f"On {self.images} held-out images, {self.k} neighbours for MLE; ± one standard "
                "error over images. Gaussian: what clouds of as many points give, of equal "
                "variance in all features for the rank and the ratio, and of the layer's own "
                f"covariance for TwoNN and MLE.{gone}"
            ),
            columns=("run", "layer", "features", *titles),
            rows=tuple(rows),
            name="dimension",
        )


def _without_nan(series: Series) -> Series:
    told = {
        name: tuple(None if y is None or np.isnan(y) else y for y in getattr(series, name))
        for name in ("y", "low", "high")
    }
    return series.model_copy(update=told)


def _short(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
