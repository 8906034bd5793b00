"""Are concepts learned early, and at the same time?  Path walked until an image's concepts peak."""

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
from kdprobe.probes.contract import sight
from kdprobe.study import Study

UNDEFINED = -1  # the image has no task-relevant concept at any checkpoint


def peaks(foreground: Array) -> Array:
    """m (..., n): the first checkpoint with most concepts, from counts (..., k, n)."""
    first = foreground.argmax(axis=-2)
    return np.where(foreground.max(axis=-2) > 0, first, UNDEFINED)


def spread(path: Array, peak: Array) -> tuple[float, float]:
    """D_mean and D_var over the images with a peak: path (k,), peak (n,); NaN where none has."""
    d = path[peak[peak != UNDEFINED]]
    if len(d) == 0:
        return float("nan"), float("nan")
    return float(d.mean()), float(d.var())


@dataclass(frozen=True)
class Learning:
    """When one network learned its concepts at one layer."""

    peak: Array  # (b, n) index of the checkpoint, or -1
    path: Array  # (k,) weight distance of the layer, checkpoint to checkpoint, over ||w_0||
    path_all: Array  # (k,) the same of all weights
    path_steps: Array | None  # (k,) of the layer, summed over optimiser steps, where recorded


@dataclass(frozen=True)
class Simultaneity:
    """When every network learned its concepts."""

    thresholds: Sequence[float]
    headline: int
    epochs: Sequence[int]  # (k,)
    runs: Mapping[str, Mapping[str, Learning]]  # run -> layer
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        layers = list(next(iter(self.runs.values())))
        return [*(self._peaked(layer) for layer in layers), self._table(layers)]

    def _peaked(self, layer: str) -> Lines:
        steps = np.arange(len(self.epochs))[:, None]
        done = {}
        for run, at in self.runs.items():
            peak = at[layer].peak[self.headline]
            done[run] = ((peak != UNDEFINED) & (peak <= steps)).mean(1)
        return Lines(
            title=f"Images whose concepts have peaked, {layer}",
            how_to_read=(
                "Share of images that have reached their largest number of task-relevant concepts "
                "by an epoch: steeper = learned at the same time, further left = learned early."
            ),
            x_label="epoch",
            y_label="share of images",
            series=arm_series(self.roles, self.epochs, done),
        )

    def _table(self, layers: Sequence[str]) -> Table:
        rows = [self._row(run, layer) for run in self.runs for layer in layers]
        columns = ("run", "layer", "D_mean", "D_var", "D_mean, all weights", "D_mean, steps") + (
            "D_mean / whole path",
            "images without peak",
        )
        return Table(
            title="Weight distance until the concepts peak",
            how_to_read=(
                "D is a path length over the norm of the first weights. Small D_mean: learned "
                "early. Small D_var: learned at the same time. Paths of runs with other learning-"
                "rate schedules compare schedules."
            ),
            columns=columns,
            rows=tuple(rows),
            name="simultaneity",
        )

    def _row(self, run: str, layer: str) -> tuple[str | float | None, ...]:
        at = self.runs[run][layer]
        peak = at.peak[self.headline]
        mean, variance = spread(at.path, peak)
        steps = None if at.path_steps is None else spread(at.path_steps, peak)[0]
        whole = mean / at.path[-1] if at.path[-1] > 0 else float("nan")
        everything = spread(at.path_all, peak)[0]
        numbers = (mean, variance, everything, steps, whole)
        shown = tuple(None if x is None or np.isnan(x) else round(x, 5) for x in numbers)
        return (run, layer, *shown, int((peak == UNDEFINED).sum()))


@metric(
    "simultaneity",
    title="Learning simultaneity",
    question="Are concepts learned early, and at the same time?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.2",
    better="lower",
    range=(0.0, float("inf")),
    ranged=("path", "path_all", "path_steps"),
    place=40,
)
def simultaneity(study: Study, scope: Scope) -> Inquiry[Simultaneity]:
    """The weight distance that training walks until an image has most task-relevant concepts.

    m(x) = argmax_k N_fg,k(x), the first maximum over checkpoints;
    d(x) = sum_{k=1..m(x)} ||w_k - w_{k-1}|| / ||w_0||, of the weights behind the probed layer;
    D_mean and D_var are its mean and variance over images. Beside it the same of all weights, and
    summed over every optimiser step where the trainer recorded that (it is far longer).
    """
    how, cut = ConceptLook(scope), scope.discarding
    runs, epochs = learners(study)
    walks = {run: sight("weights", *run.at(epochs), layers=how.layers) for run in runs}
    maps = [how.at(c) for run in runs for c in run.at(epochs)]
    seen = yield [how.pictures, *maps, *walks.values()]
    found: dict[str, dict[str, Learning]] = {}
    for run, walk in walks.items():
        found[run.id] = {}
        for layer in how.layers:
            foreground = how.kept_on_objects(seen, run.at(epochs), layer).sum((-2, -1))
            found[run.id][layer] = _learning(seen[walk], layer, peaks(foreground))
    return Simultaneity(cut.thresholds, cut.headline, epochs, found, roles_of(runs))


def _learning(walk: Mapping[str, Array], layer: str, peak: Array) -> Learning:
    start, start_all = walk[f"start/{layer}"], walk["start/"]
    stepped = walk.get(f"stepped/{layer}")
    return Learning(
        peak=peak,
        path=walk[f"moved/{layer}"] / start,
        path_all=walk["moved/"] / start_all,
        path_steps=None if stepped is None else (stepped - stepped[0]) / start,
    )
