"""What is said of concepts on the page?  The result of the metric `concepts`, as panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, arm_series, page_only
from kdprobe.metrics.counting import IN_SD, ConceptCount
from kdprobe.panels import Cell, Lines, Panel, Table, Viewer
from kdprobe.stats import mean_of_defined

SATURATION = 0.9  # of the cells on the object: above, the threshold separates nothing


@dataclass(frozen=True)
class Curve:
    """Mean concept counts of one network at one layer over training."""

    foreground: Array  # (k,) at the headline threshold
    background: Array  # (k,)


@dataclass(frozen=True)
class Concepts:
    """Visual concepts of every network."""

    thresholds: Sequence[float]  # (b,)
    headline: int  # index of the paper's threshold
    layers: Sequence[str]
    epochs: Sequence[int]  # (k,) of the curves: those that all baselines and students share
    object_cells: Array  # (n,)
    background_cells: Array  # (n,)
    runs: Mapping[str, Mapping[str, ConceptCount]]  # run -> layer
    saturated: Mapping[str, Sequence[str]]  # layer -> runs that count > 90% of the object's cells
    unconverged: Mapping[str, tuple[int, int]]  # layer -> maps, at all checkpoints, and of how many
    effective: Mapping[str, float]  # layer -> share of the images that the paper's filter keeps
    curves: Mapping[str, Mapping[str, Curve]] = page_only()
    roles: Roles = page_only()
    viewer: Viewer | None = page_only()

    def panels(self) -> list[Panel]:
        found: list[Panel] = [] if self.viewer is None else [self.viewer]
        for layer in self.layers:
            if len(self.epochs) > 1:
                found += [self._curve(layer, "foreground"), self._curve(layer, "background")]
            found.append(self._sweep(layer))
        return [*found, self._table(), self._scale_free(), self._trust()]

    def findings(self) -> list[str]:
        """Images and layers without a count, maps that did not converge, idle thresholds."""
        return [
            *self._sides(),
            *self._dead(),
            *self._unconverged(),
            *self._filtered(),
            *self._saturation(),
        ]

    def _sides(self) -> list[str]:
        cells = {"object": self.object_cells, "background": self.background_cells}
        return [
            f"{int((found == 0).sum())} of {len(found)} images have no {side}: they have no "
            "concepts there to be counted, and no share λ"
            for side, found in cells.items()
            if (found == 0).any()
        ]

    def _dead(self) -> list[str]:
        return [
            f"{run}: layer {layer} answers to no part of {at.dead_images} images; they are left "
            "out there: it may have died in training, choose another layer"
            for run, layers in self.runs.items()
            for layer, at in layers.items()
            if at.dead_images
        ]

    def _unconverged(self) -> list[str]:
        return [
            f"{bad} of {total} entropy maps at {layer}, of all checkpoints, did not converge: "
            "the fit goes on with more discarding.steps; the paper's procedure ends where it ends"
            for layer, (bad, total) in self.unconverged.items()
            if bad
        ]

    def _filtered(self) -> list[str]:
        return [
            f"the paper's filter keeps {share:.0%} of the images at {layer}"
            for layer, share in self.effective.items()
            if share < 1
        ]

    def _saturation(self) -> list[str]:
        told = [
            f"{len(runs)} of {len(self.runs)} networks at {layer}"
            for layer, runs in self.saturated.items()
            if runs
        ]
        if not told:
            return []
        return [
            f"at b = {self.thresholds[self.headline]:g} nats more than {SATURATION:.0%} of the "
            f"object's cells count as concepts ({', '.join(told)}): the threshold separates little "
            "there; look at larger ones, and at the AUROC, which needs none",
        ]

    def _curve(self, layer: str, kind: str) -> Lines:
        b = self.thresholds[self.headline]
        relevant = kind == "foreground"
        counts = {run: getattr(at[layer], kind) for run, at in self.curves.items()}
        name = "Task-relevant" if relevant else "Task-irrelevant"
        return Lines(
            title=f"{name} concepts over training, {layer}",
            how_to_read=(
                f"Cells {'on' if relevant else 'off'} the object that are kept by more than "
                f"{b:g} nats over the background, mean of an image; the band spans the seeds."
            ),
            x_label="epoch",
            y_label="concepts per image",
            series=arm_series(self.roles, self.epochs, counts),
        )

    def _sweep(self, layer: str) -> Lines:
        shares = {run: at[layer].share for run, at in self.runs.items()}
        return Lines(
            title=f"Share of concepts that are task-relevant, {layer}",
            how_to_read=(
                "λ = N_fg / (N_fg + N_bg) along the threshold b. Where the order of the arms "
                "changes along the axis, a verdict at one b says little."
            ),
            x_label="threshold b (nats)",
            y_label="λ",
            series=arm_series(self.roles, self.thresholds, shares),
        )

    def _table(self) -> Table:
        rows = [
            self._row(run, layer, index)
            for run in self.runs
            for layer in self.layers
            for index in range(len(self.thresholds))
        ]
        columns = ("run", "layer", "b", "N_fg", "± MC", "N_bg", "± MC ", "λ")
        columns_rest = ("N_fg / object %", "N_bg / background %", "log odds")
        return Table(
            title="Concept counts",
            how_to_read=(
                "Means over images. ± MC is the error from random draws alone (0: exact). Log "
                "odds: of a cell on the object to be a concept, over those of the background."
            ),
            columns=columns + columns_rest,
            rows=tuple(rows),
            name="concepts",
        )

    def _row(self, run: str, layer: str, b: int) -> tuple[Cell, ...]:
        count = self.runs[run][layer]
        fg, bg = (float(mean_of_defined(side[b])) for side in (count.foreground, count.background))
        return (
            run,
            layer,
            self.thresholds[b],
            _rounded(fg, 2),
            _rounded(float(count.count_error[b][0]), 3),
            _rounded(bg, 2),
            _rounded(float(count.count_error[b][1]), 3),
            _rounded(float(count.share[b]), 3),
            _rounded(100 * float(count.foreground_area[b]), 1),
            _rounded(100 * float(count.background_area[b]), 1),
            _rounded(float(mean_of_defined(count.log_odds[b])), 2),
        )

    def _scale_free(self) -> Table:
        rows = []
        for run, layers in self.runs.items():
            for layer, at in layers.items():
                shares = [_rounded(float(share), 3) for share in at.share_sd]
                areas = [_rounded(float(mean_of_defined(x)), 3) for x in (at.auroc, at.precision)]
                rows.append((run, layer, *areas, _rounded(at.sd, 3), *shares))
        return Table(
            title="Without a threshold in nats",
            how_to_read=(
                "AUROC (chance: 0.5) and average precision (chance: the object's share of the "
                "image) of -H against the object need no threshold. λ at thresholds of 0.5 to 2 "
                "standard deviations (sd) of the background's entropies."
            ),
            columns=("run", "layer", "AUROC", "average precision", "background sd (nats)")
            + tuple(f"λ at {t:g} sd" for t in IN_SD),
            rows=tuple(rows),
            name="concepts_scale_free",
        )

    def _trust(self) -> Table:
        rows = []
        for run, layers in self.runs.items():
            for layer, at in layers.items():
                pair = (at.jaccard[self.headline], at.unstable[self.headline])
                distortion = at.distortion
                rows.append(
                    (
                        run,
                        layer,
                        _rounded(at.entropy_error, 3),
                        *(_rounded(float(value), 3) for value in pair),
                        at.unconverged,
                        None if distortion is None else _rounded(distortion, 3),
                    )
                )
        return Table(
            title="How sure the concepts are",
            how_to_read=(
                "Error of H: from random draws, root mean square over cells. Jaccard: of the "
                "concept sets of two estimates with other draws (1: the same). Unstable: share of "
                "the concepts that fewer than half of the restarts, by a part of the draws, find. "
                "Errors are given the size of noise that the pilot finds. Feature loss: "
                "normalised, half of lam at the optimum of a linear layer."
            ),
            columns=("run", "layer", "error of H (nats)", "Jaccard", "unstable", "unconverged maps")
            + ("feature loss",),
            rows=tuple(rows),
            name="concepts_errors",
        )


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(value, digits)
