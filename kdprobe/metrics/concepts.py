"""Which parts of the image does a network keep?  Visual concepts on the object and off it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    Scope,
    Seen,
    arm_series,
    metric,
    page_only,
    roles_of,
)
from kdprobe.metrics.counting import ConceptCount, count, sides
from kdprobe.metrics.discarding import ConceptLook, Objects
from kdprobe.metrics.gallery import gallery
from kdprobe.panels import Gallery, Lines, Panel, Table
from kdprobe.stats import mean_of_defined
from kdprobe.study import Checkpoint, Run, Study

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
    curves: Mapping[str, Mapping[str, Curve]] = page_only()
    roles: Roles = page_only()
    galleries: Sequence[Gallery] = page_only()

    def panels(self) -> list[Panel]:
        found: list[Panel] = [*self.galleries]
        for layer in self.layers:
            if len(self.epochs) > 1:
                found += [self._curve(layer, "foreground"), self._curve(layer, "background")]
            found.append(self._sweep(layer))
        return [*found, self._table()]

    def findings(self) -> list[str]:
        """Dead layers, and where the headline threshold tells the networks apart no more."""
        dead = {
            run: max(at.dead_images for at in layers.values()) for run, layers in self.runs.items()
        }
        found = [
            f"{run}: a layer answers to no pixel of {count} images; they are left out there"
            for run, count in dead.items()
            if count
        ]
        told = [
            f"{len(runs)} of {len(self.runs)} networks at {layer}"
            for layer, runs in self.saturated.items()
            if runs
        ]
        if not told:
            return found
        return [
            *found,
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
        columns_rest = ("N_fg / object %", "N_bg / background %", "AUROC")
        return Table(
            title="Concept counts",
            how_to_read=(
                "Means over images. ± MC is the error from random probes alone (0: exact). "
                "AUROC: how well what is kept separates the object, without any threshold."
            ),
            columns=columns + columns_rest,
            rows=tuple(rows),
            name="concepts",
        )

    def _row(self, run: str, layer: str, b: int) -> tuple[str | float | None, ...]:
        count = self.runs[run][layer]
        fg, bg = (float(mean_of_defined(side[b])) for side in (count.foreground, count.background))
        share, auroc = float(count.share[b]), float(mean_of_defined(count.auroc))
        return (
            run,
            layer,
            self.thresholds[b],
            _rounded(fg, 2),
            round(float(count.count_error[b][0]), 3),
            _rounded(bg, 2),
            round(float(count.count_error[b][1]), 3),
            _rounded(share, 3),
            _rounded(100 * fg / max(float(self.object_cells.mean()), 1e-9), 1),
            _rounded(100 * bg / max(float(self.background_cells.mean()), 1e-9), 1),
            _rounded(auroc, 3),
        )


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(value, digits)


@metric(
    "concepts",
    title="Visual concepts",
    question="Which parts of the image does a network keep, on the object and off it?",
    source="Cheng et al. 2020, arXiv:2003.03622, section 3.1, by the small-noise closed form",
    better="neither",
    range=(0.0, 1.0),
    ranged=("auroc",),
    place=30,
)
def concepts(
    study: Study, scope: Scope, *, shown: int = 6, shown_b: float = 1.0
) -> Inquiry[Concepts]:
    """Cells of which a layer discards less information than of the background.

    H_c is the entropy of the noise in cell c that the layer cannot tell from the image (nats).
    A concept is a cell with Hbar - H_c > b, where Hbar is the mean over the background's cells.
    N_fg counts those on the object, N_bg those off it; lambda = mean N_fg / (N_fg + N_bg) over
    the images that have a concept. H is taken in the limit of small noise, where it follows from
    the layer's Jacobian: exact where the layer is narrow, else by Hutchinson probes, whose error is
    carried into the counts. A fit at the paper's own, larger noise differs from this limit.
    """
    how, cut = ConceptLook(scope), scope.discarding
    curved, epochs = study.learners, study.common_epochs()
    course = [how.at(c) for run in curved for c in run.at(epochs)]
    seen = yield [how.pictures, *(how.at(study.final(run)) for run in study.runs), *course]
    objects, layers = how.objects(seen), how.layers
    runs = {
        run.id: {layer: _last_count(how, seen, study.final(run), layer) for layer in layers}
        for run in study.runs
    }
    curves = {
        run.id: {layer: _curve(how, seen, run, layer, epochs) for layer in layers} for run in curved
    }
    return Concepts(
        thresholds=cut.thresholds,
        headline=cut.headline,
        layers=layers,
        epochs=epochs,
        object_cells=objects.on.sum((1, 2)),
        background_cells=(~objects.on).sum((1, 2)),
        runs=runs,
        saturated=_saturated(runs, objects, cut.headline),
        curves=curves,
        roles=roles_of(study.runs),
        galleries=[gallery(how, seen, study, layer, shown=shown, b=shown_b) for layer in layers],
    )


def _last_count(how: ConceptLook, seen: Seen, final: Checkpoint, layer: str) -> ConceptCount:
    h = how.entropies(seen, [final], layer)[0]
    error = how.errors(seen, final, layer)
    halves = how.halves(seen, final, layer)
    return count(h, error, halves, how.objects(seen).on, how.scope.discarding.thresholds)


def _curve(how: ConceptLook, seen: Seen, run: Run, layer: str, epochs: Sequence[int]) -> Curve:
    if not epochs:
        return Curve(np.zeros(0), np.zeros(0))
    on = how.objects(seen).on
    h = how.entropies(seen, run.at(epochs), layer)
    foreground, background = sides(h, on, [how.scope.discarding.b])  # (1, k, n)
    return Curve(mean_of_defined(foreground[0]), mean_of_defined(background[0]))


def _saturated(
    runs: Mapping[str, Mapping[str, ConceptCount]], objects: Objects, headline: int
) -> dict[str, list[str]]:
    cells = max(int(objects.on.sum()), 1)
    layers = next(iter(runs.values()))
    return {
        layer: [
            run
            for run, at in runs.items()
            if np.nansum(at[layer].foreground[headline]) > SATURATION * cells
        ]
        for layer in layers
    }
