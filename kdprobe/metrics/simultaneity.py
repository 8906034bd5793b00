"""Are concepts learned early, and at the same time?  Path walked until an image's concepts peak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    Seen,
    arm_series,
    by_arm,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.looking import ConceptLook, learners
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Cell, Lines, Panel, Series, Table
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import image_bootstrap, mean_of_defined, variance_of_defined
from kdprobe.study import Checkpoint, Study

UNDEFINED = -1  # the image has no task-relevant concept at any checkpoint
NEARLY = 0.95  # of an image's most concepts: the second rule for when it has learned


def peaks(foreground: Array, share: float = 1.0) -> Array:
    """m (..., n): the first checkpoint with at least `share` of the most concepts.

    From counts (..., k, n); share 1 is the paper's argmax.
    """
    most = foreground.max(axis=-2)
    first = (foreground >= share * most[..., None, :]).argmax(axis=-2)
    return np.where(most > 0, first, UNDEFINED)


def distances(path: Array, peak: Array) -> Array:
    """d(x) (..., n): the path (k,) walked until the peak (..., n); NaN without a peak."""
    return np.where(peak == UNDEFINED, np.nan, path[np.maximum(peak, 0)])


@dataclass(frozen=True)
class Learning:
    """When one network learned its concepts at one layer. Paths are over ||w_0||."""

    peak: Array  # (b, n) index of the checkpoint with most concepts, or -1
    near: Array  # (b, n) the first within 95% of that
    error: Array  # (b, 2) Monte-Carlo standard error of D_mean and D_var by the peak; 0 where exact
    trace: Array  # (k, n) task-relevant concepts of every image at the headline threshold
    path: Array  # (k,) weight distance of the layer, checkpoint to checkpoint
    path_all: Array  # (k,) the same of all weights
    path_steps: Array | None  # (k,) of the layer, summed over optimiser steps, where recorded
    path_all_steps: Array | None  # (k,) the same of all weights


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
        figures = [draw(layer) for layer in layers for draw in (self._peaked, self._traces)]
        return [*figures, self._table(layers), self._paths(layers)]

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

    def _traces(self, layer: str) -> Lines:
        series = []
        for (arm, role), runs in by_arm(self.roles, self.runs).items():
            images = np.concatenate([self.runs[run][layer].trace for run in runs], axis=1)
            low, middle, high = np.nanquantile(images, (0.25, 0.5, 0.75), axis=1)
            lines = {"y": middle, "low": low, "high": high}
            epochs = tuple(map(float, self.epochs))
            rows = {name: tuple(line.tolist()) for name, line in lines.items()}
            series.append(Series(name=arm, x=epochs, role=role, **rows))
        return Lines(
            title=f"Task-relevant concepts of single images over training, {layer}",
            how_to_read=(
                "Median image of an arm; the band holds the middle half of the images of all seeds "
                f"(b = {self.thresholds[self.headline]:g})."
            ),
            x_label="epoch",
            y_label="concepts",
            series=tuple(series),
        )

    def _table(self, layers: Sequence[str]) -> Table:
        rules = {"most": "peak", "95%": "near"}
        rows = [
            self._row(run, layer, rule, getattr(self.runs[run][layer], field)[self.headline])
            for run in self.runs
            for layer in layers
            for rule, field in rules.items()
        ]
        return Table(
            title="Weight distance until the concepts peak",
            how_to_read=(
                "D is a path length over the norm of the first weights, until an image has most "
                "concepts, or 95% of that. Small D_mean: learned early. Small D_var: learned at "
                "the same time. Intervals are of 95%, by drawing images again; ± MC is the error "
                "from random draws. Paths of other learning-rate schedules compare schedules."
            ),
            columns=("run", "layer", "until", "D_mean", "from", "to", "± MC", "D_var", "from ")
            + ("to ", "± MC ", "D_std", "images without peak"),
            rows=tuple(rows),
            name="simultaneity",
        )

    def _row(self, run: str, layer: str, rule: str, peak: Array) -> tuple[Cell, ...]:
        at = self.runs[run][layer]
        d = distances(at.path, peak)
        told: list[float] = []
        for index, statistic in enumerate((mean_of_defined, variance_of_defined)):
            known = at.error[self.headline][index] if rule == "most" else np.nan
            told += [float(statistic(d)), *image_bootstrap(d, statistic), float(known)]
        told.append(float(np.sqrt(variance_of_defined(d))))
        return (run, layer, rule, *map(_rounded, told), int((peak == UNDEFINED).sum()))

    def _paths(self, layers: Sequence[str]) -> Table:
        rows = []
        for run in self.runs:
            for layer in layers:
                at = self.runs[run][layer]
                paths = (at.path, at.path_steps, at.path_all, at.path_all_steps)
                rows.append((run, layer, *(x for path in paths for x in self._of(path, at))))
        kinds = ("layer", "layer, by step", "all weights", "all weights, by step")
        columns = [(f"D_mean: {kind}", f"share of the whole: {kind}") for kind in kinds]
        return Table(
            title="The same distance by other paths",
            how_to_read=(
                "Weights behind the layer, or all; from checkpoint to checkpoint, or summed over "
                "every optimiser step (far longer: training goes to and fro). Shares are of the "
                "whole path of training."
            ),
            columns=("run", "layer", *(name for pair in columns for name in pair)),
            rows=tuple(rows),
            name="simultaneity_paths",
        )

    def _of(self, path: Array | None, at: Learning) -> tuple[float | None, float | None]:
        """D_mean along `path`, and as a share of it."""
        if path is None:
            return None, None
        mean = float(mean_of_defined(distances(path, at.peak[self.headline])))
        return _rounded(mean), _rounded(mean / path[-1] if path[-1] > 0 else np.nan)


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)


@metric(
    "simultaneity",
    title="Learning simultaneity",
    question="Are concepts learned early, and at the same time?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.2",
    better="lower",
    range=(0.0, float("inf")),
    ranged=("path", "path_all", "path_steps", "path_all_steps", "trace", "error"),
    place=40,
)
def simultaneity(study: Study, scope: Scope) -> Inquiry[Simultaneity]:
    """The weight distance that training walks until an image has most task-relevant concepts.

    m(x) = argmax_k N_fg,k(x), the first maximum over checkpoints, and beside it the first
    checkpoint within 95% of the maximum; d(x) = sum_{k=1..m(x)} ||w_k - w_{k-1}|| / ||w_0||, of
    the weights behind the probed layer; D_mean, D_var and D_std are its mean, variance and standard
    deviation over images. Beside it the same of all weights, and summed over every optimiser step
    where the trainer recorded that. The same checkpoints for every network.
    """
    how, cut = ConceptLook(scope, study), scope.discarding
    runs, epochs = learners(study)
    walks = {run: sight("weights", *run.at(epochs), layers=how.layers) for run in runs}
    maps = [how.at(c) for run in runs for c in run.at(epochs)]
    seen = yield [how.pictures, *maps, *walks.values()]
    found = {
        run.id: {layer: _learning(how, seen, walk, run.at(epochs), layer) for layer in how.layers}
        for run, walk in walks.items()
    }
    return Simultaneity(cut.thresholds, cut.headline, epochs, found, roles_of(runs))


def _learning(
    how: ConceptLook, seen: Seen, walk: Sight, course: Sequence[Checkpoint], layer: str
) -> Learning:
    objects, walked = how.objects(seen), seen[walk]
    path = walked[f"moved/{layer}"] / walked[f"start/{layer}"]

    def counted(h: Array) -> Array:
        """(b, k, n) task-relevant concepts."""
        return np.asarray((how.found(h, objects) & objects.on).sum(-1))

    foreground = counted(how.entropies(seen, course, layer))
    others = [distances(path, peaks(counted(h))) for h in how.replicates(seen, course, layer)]
    spread = [
        np.stack([statistic(d) for d in others]).std(axis=0, ddof=how.lost)
        for statistic in (mean_of_defined, variance_of_defined)
        if others
    ]
    return Learning(
        peak=peaks(foreground),
        near=peaks(foreground, NEARLY),
        error=np.stack(spread, axis=1) if others else np.zeros((len(foreground), 2)),
        trace=foreground[how.scope.discarding.headline],
        path=path,
        path_all=walked["moved/"] / walked["start/"],
        path_steps=_stepped(walked, layer),
        path_all_steps=_stepped(walked, ""),
    )


def _stepped(walked: Mapping[str, Array], layer: str) -> Array | None:
    """(k,) path summed over optimiser steps, from the first checkpoint, over its weights' norm."""
    steps = walked.get(f"stepped/{layer}")
    return None if steps is None else (steps - steps[0]) / walked[f"start/{layer}"]
