"""Does training go straight?  Share of the concepts ever tried that are kept to the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    Seen,
    arm_series,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.counting import HALF
from kdprobe.metrics.looking import ConceptLook, learners
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Cell, Lines, Panel, Table
from kdprobe.stats import mean_of_defined
from kdprobe.study import Checkpoint, Study


def kept_share(cells: Array) -> tuple[Array, Array, Array]:
    """rho, |S_M| and |union S_k| of every image, each (..., n), from concepts (..., k, n, q) bool.

    rho is NaN for an image without any concept at any checkpoint.
    """
    final = cells[..., -1, :, :].sum(-1)
    ever = cells.any(axis=-3).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(ever > 0, final / ever, np.nan)
    return rho, final, ever


def kept_so_far(cells: Array) -> Array:
    """(k,) rho as if training had ended at each checkpoint, from concepts (k, n, q) bool."""
    final = cells.sum(-1)
    ever = np.logical_or.accumulate(cells, axis=0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return mean_of_defined(np.where(ever > 0, final / ever, np.nan))


def noise_floor(cells: Array) -> Array:
    """(b,) rho of one fixed network: its concepts (b, k, n, q) estimated k times with fresh chance.

    Each estimate is taken as the last one in turn, and rho is their mean.
    """
    ever = cells.any(axis=1, keepdims=True).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(ever > 0, cells.sum(-1) / ever, np.nan)  # (b, k, n)
    return mean_of_defined(mean_of_defined(rho))


@dataclass(frozen=True)
class Straightness:
    """How straight one network's training went at one layer."""

    ratio: Array  # (b, n) rho of an image in [0, 1]; NaN without concepts
    final: Array  # (b, n) concepts at the last checkpoint
    ever: Array  # (b, n) concepts at any checkpoint
    error: Array  # (b,) Monte-Carlo standard error of rho; 0 where exact
    floor: Array  # (b,) rho of the last checkpoint against itself with fresh chance; 1 where exact
    persistent: Array  # (b,) rho of the concepts that at least half of the restarts find
    so_far: Array  # (k,) rho up to each checkpoint, at the headline threshold

    @property
    def rho(self) -> Array:
        """(b,) mean over the images where it is defined."""
        return mean_of_defined(self.ratio)

    @property
    def over_floor(self) -> Array:
        """(b,) rho as a share of what estimator noise alone leaves of it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(self.floor > 0, self.rho / self.floor, np.nan))


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
        figures = [draw(layer) for layer in layers for draw in (self._over_training, self._sweep)]
        return [*figures, self._table(layers)]

    def _over_training(self, layer: str) -> Lines:
        rho = {run: at[layer].so_far for run, at in self.runs.items()}
        return Lines(
            title=f"Stability over training, {layer}",
            how_to_read=(
                "ρ as if training had ended at an epoch: concepts there / concepts tried until "
                f"then (b = {self.thresholds[self.headline]:g}). It falls where concepts are "
                "dropped. Mean and range over seeds."
            ),
            x_label="epoch",
            y_label="ρ",
            series=arm_series(self.roles, self.epochs, rho),
        )

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
            how_to_read=(
                "Means over the images that have a concept at some checkpoint. ± MC: error of ρ "
                "from random draws. Noise floor: ρ of one fixed network, estimated with other "
                "draws as often as there are checkpoints (or replicates). Where ρ is not below it, "
                "detours may be noise alone; ρ itself takes the same draws at every checkpoint, so "
                "it can be above. Persistent: ρ of the concepts that half of the restarts find."
            ),
            columns=("run", "layer", "b", "ρ", "± MC", "noise floor", "ρ / floor", "persistent ρ")
            + ("kept", "ever tried", "images without concepts"),
            rows=rows,
            name="stability",
        )

    def _row(self, run: str, layer: str, b: int) -> tuple[Cell, ...]:
        at = self.runs[run][layer]
        known = ~np.isnan(at.ratio[b])
        numbers = (at.rho[b], at.error[b], at.floor[b], at.over_floor[b], at.persistent[b])
        return (
            run,
            layer,
            self.thresholds[b],
            *(None if np.isnan(number) else round(float(number), 4) for number in numbers),
            *(_mean_where(known, side[b]) for side in (at.final, at.ever)),
            int(np.isnan(at.ratio[b]).sum()),
        )


def _mean_where(known: Array, values: Array) -> float | None:
    return round(float(values[known].mean()), 2) if known.any() else None


@metric(
    "stability",
    title="Stability of optimisation directions",
    question="Does training go straight, or try concepts and drop them again?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.3",
    better="higher",
    range=(0.0, 1.0),
    ranged=("ratio", "floor", "persistent", "so_far"),
    place=50,
)
def stability(study: Study, scope: Scope) -> Inquiry[Stability]:
    """rho = mean_x |S_M(x)| / |union_{k=1..M} S_k(x)|, S_k the concepts on the object.

    The same checkpoints for every network, the same random draws for every checkpoint. Estimator
    noise alone makes rho smaller than 1: the noise floor is rho of one fixed network, the last
    checkpoint, that is estimated M times with fresh draws (replicates of the draws that were made;
    as many as there are: 14 by default, the paper's restarts).
    """
    how, cut = ConceptLook(scope, study), scope.discarding
    runs, epochs = learners(study)
    seen = yield [how.pictures, *(how.at(c) for run in runs for c in run.at(epochs))]
    found = {
        run.id: {layer: _straightness(how, seen, run.at(epochs), layer) for layer in how.layers}
        for run in runs
    }
    return Stability(cut.thresholds, cut.headline, epochs, found, roles_of(runs))


def _straightness(
    how: ConceptLook, seen: Seen, course: Sequence[Checkpoint], layer: str
) -> Straightness:
    objects = how.objects(seen)

    def on_object(h: Array) -> Array:
        """(b, k, n, q)."""
        return how.found(h, objects) & objects.on

    cells = on_object(how.entropies(seen, course, layer))
    rhos, fixed = [], []
    for h in how.replicates(seen, course, layer):
        other = on_object(h)
        rhos.append(mean_of_defined(kept_share(other)[0]))
        fixed.append(other[:, -1])
    exact, ratio = np.ones(len(cells)), kept_share(cells)
    return Straightness(
        *ratio,
        error=np.stack(rhos).std(axis=0, ddof=how.lost) if rhos else 0 * exact,
        floor=noise_floor(np.stack(fixed[: len(course)], axis=1)) if fixed else exact,
        persistent=mean_of_defined(kept_share(_persistent(how, seen, course, layer, cells))[0]),
        so_far=kept_so_far(cells[how.scope.discarding.headline]),
    )


def _persistent(
    how: ConceptLook, seen: Seen, course: Sequence[Checkpoint], layer: str, cells: Array
) -> Array:
    """Those of the concepts (b, k, n, q) that at least half of the restarts find."""
    objects, again, count = how.objects(seen), np.zeros(cells.shape, dtype=np.int16), 0
    for h in how.restarts(seen, course, layer):
        again += how.found(h, objects)
        count += 1
    return np.asarray(cells & (again >= HALF * count))
