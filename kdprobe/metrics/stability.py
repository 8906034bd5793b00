"""Does training go straight?  Share of the concepts ever tried that are kept to the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    Scope,
    arm_series,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.discarding import ConceptLook, learners
from kdprobe.panels import Lines, Panel, Table
from kdprobe.stats import mean_of_defined
from kdprobe.study import Study


def kept_share(cells: Array) -> tuple[Array, Array, Array]:
    """rho, |S_M| and |union S_k| of every image, each (..., n), from cells (..., k, n, g, g) bool.

    rho is NaN for an image without any concept at any checkpoint.
    """
    final = cells[..., -1, :, :, :].sum((-2, -1))
    ever = cells.any(axis=-4).sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(ever > 0, final / ever, np.nan)
    return rho, final, ever


@dataclass(frozen=True)
class Straightness:
    """How straight one network's training went at one layer."""

    ratio: Array  # (b, n) rho of an image in [0, 1]; NaN without concepts
    final: Array  # (b, n) concepts at the last checkpoint
    ever: Array  # (b, n) concepts at any checkpoint

    @property
    def rho(self) -> Array:
        """(b,) mean over the images where it is defined."""
        return mean_of_defined(self.ratio)


@dataclass(frozen=True)
class Stability:
    """How straight the training of every network went."""

    thresholds: Sequence[float]
    headline: int
    epochs: Sequence[int]
    runs: Mapping[str, Mapping[str, Straightness]]  # run -> layer
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        layers = list(next(iter(self.runs.values())))
        return [*(self._sweep(layer) for layer in layers), self._table(layers)]

    def _sweep(self, layer: str) -> Lines:
        rho = {run: at[layer].rho for run, at in self.runs.items()}
        return Lines(
            title=f"Stability along the threshold, {layer}",
            how_to_read=(
                "ρ = concepts kept to the end / concepts ever tried, on the object: 1 = no detour. "
                "At small b nearly every cell counts and ρ nears 1 for any network."
            ),
            x_label="threshold b (nats)",
            y_label="ρ",
            series=arm_series(self.roles, self.thresholds, rho),
        )

    def _table(self, layers: Sequence[str]) -> Table:
        rows = tuple(
            self._row(run, layer, index)
            for run in self.runs
            for layer in layers
            for index in range(len(self.thresholds))
        )
        return Table(
            title="Stability of optimisation directions",
            how_to_read="Means over the images that have a concept at some checkpoint.",
            columns=("run", "layer", "b", "ρ", "kept", "ever tried", "images without concepts"),
            rows=rows,
            name="stability",
        )

    def _row(self, run: str, layer: str, b: int) -> tuple[str | float | None, ...]:
        at = self.runs[run][layer]
        rho = float(at.rho[b])
        return (
            run,
            layer,
            self.thresholds[b],
            None if np.isnan(rho) else round(rho, 4),
            round(float(at.final[b].mean()), 2),
            round(float(at.ever[b].mean()), 2),
            int(np.isnan(at.ratio[b]).sum()),
        )


@metric(
    "stability",
    title="Stability of optimisation directions",
    question="Does training go straight, or try concepts and drop them again?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.3",
    better="higher",
    range=(0.0, 1.0),
    ranged=("ratio",),
    place=50,
)
def stability(study: Study, scope: Scope) -> Inquiry[Stability]:
    """rho = mean_x |S_M(x)| / |union_{k=1..M} S_k(x)|, S_k the concepts on the object.

    The same checkpoints for every network, the same random probes for every checkpoint.
    """
    how, cut = ConceptLook(scope), scope.discarding
    runs, epochs = learners(study)
    seen = yield [how.pictures, *(how.at(c) for run in runs for c in run.at(epochs))]
    found: dict[str, dict[str, Straightness]] = {}
    for run in runs:
        found[run.id] = {}
        for layer in how.layers:
            cells = how.kept_on_objects(seen, run.at(epochs), layer)
            found[run.id][layer] = Straightness(*kept_share(cells))
    return Stability(cut.thresholds, cut.headline, epochs, found, roles_of(runs))
