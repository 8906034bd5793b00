"""What is said of learning on the page?  The result of the metric `simultaneity`, as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, by_arm, page_only
from kdprobe.panels import Cell, Lines, Panel, Series, Table
from kdprobe.stats import image_bootstrap, mean_of_defined, variance_of_defined

UNDEFINED = -1  # the image has no task-relevant concept at any checkpoint


def distances(path: Array, peak: Array) -> Array:
    """d(x) (..., n): the path (k,) walked until the peak (..., n); NaN without a peak."""
    return np.where(peak == UNDEFINED, np.nan, path[np.maximum(peak, 0)])


@dataclass(frozen=True)
class Learning:
    """When one network learned its concepts at one layer. Paths are over ||w_0||."""

    peak: Array  # (b, n) index of the checkpoint with most concepts, or -1
    near: Array  # (b, n) the first within 95% of that
    error: Array  # (b, 2) Monte-Carlo standard error of D_mean and D_var by the peak; 0 where exact
    trace: Array  # (k, n) task-relevant concepts of every image at the headline threshold, or NaN
    path: Array  # (k,) weight distance of the layer, checkpoint to checkpoint
    path_all: Array  # (k,) the same of all weights
    path_steps: Array | None  # (k,) of the layer, summed over optimiser steps, where recorded
    path_all_steps: Array | None  # (k,) the same of all weights

    @property
    def counted(self) -> Array:
        """(n,) bool: the images that have a count at every checkpoint."""
        return np.asarray(~np.isnan(self.trace).any(0))


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
        figures = [
            draw(layer) for layer in layers for draw in (self._walked, self._peaked, self._traces)
        ]
        return [*figures, self._table(layers), self._paths(layers)]

    def findings(self) -> list[str]:
        """Where the distance has no unit."""
        return [
            f"{run}: the first weights behind {layer} are zero, so the path over their norm, D, is "
            "not defined; see the shares of the whole path of all weights"
            for run, layers in self.runs.items()
            for layer, at in layers.items()
            if np.isnan(at.path).all()
        ]

    def _walked(self, layer: str) -> Lines:
        return Lines(
            title=f"Weight distance over training, {layer}",
            how_to_read=(
                "D that is walked until an epoch: the path of the weights behind the layer over "
                "the norm of the first. D of an image is read where its concepts peak. Mean and "
                "range over seeds."
            ),
            x_label="epoch",
            y_label="D",
            series=arm_series(
                self.roles, self.epochs, {run: at[layer].path for run, at in self.runs.items()}
            ),
        )

    def _peaked(self, layer: str) -> Lines:
        steps = np.arange(len(self.epochs))[:, None]
        done = {}
        for run, at in self.runs.items():
            peak, known = at[layer].peak[self.headline], at[layer].counted
            peaked = (peak != UNDEFINED) & (peak <= steps)
            done[run] = mean_of_defined(np.where(known, peaked, np.nan))
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
            learned = [self.runs[run][layer] for run in runs]
            images = np.concatenate([at.trace[:, at.counted] for at in learned], axis=1)
            low, middle, high = _quartiles(images)
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
        without = int((peak[at.counted] == UNDEFINED).sum())
        return (run, layer, rule, *map(_rounded, told), without)

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


def _quartiles(images: Array) -> Array:
    """(3, k) of the images (k, n); NaN where there is none."""
    if not images.shape[1]:
        return np.full((3, len(images)), np.nan)
    return np.asarray(np.quantile(images, (0.25, 0.5, 0.75), axis=1))


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)
