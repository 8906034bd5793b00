"""Do teacher and student layers carry the same geometry?  Linear CKA of all layer pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.contract import (
    Array,
    Inquiry,
    Roles,
    by_arm,
    followed,
    metric,
    page_only,
    roles_of,
    the_teacher,
)
from kdprobe.metrics.scope import Scope
from kdprobe.panels import Heatmap, Panel, Table
from kdprobe.probes.contract import sight
from kdprobe.study import Study

SMALLEST = 4  # images, for the unbiased estimator


def normalised(cross: Array, first: Array, second: Array) -> Array:
    """CKA (s, t) from HSIC of the pairs (s, t) and of each layer with itself (s,), (t,).

    NaN where a layer gives the same features for every image.
    """
    scale = np.sqrt(np.maximum(first, 0))[:, None] * np.sqrt(np.maximum(second, 0))[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, cross / scale, np.nan)


@dataclass(frozen=True)
class LayerSimilarity:
    """One network's layers against the teacher's."""

    layers: Sequence[str]  # (s,)
    cka: Array  # (s, t)


@dataclass(frozen=True)
class Similarity:
    """Every network's layers against the teacher's."""

    variant: str
    images: int
    teacher_layers: Sequence[str]  # (t,)
    runs: Mapping[str, LayerSimilarity]
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        arms = by_arm(self.roles, self.runs)
        return [*(self._heatmap(arm, runs) for (arm, _), runs in arms.items()), self._table()]

    def _heatmap(self, arm: str, runs: Sequence[str]) -> Heatmap:
        mean = np.mean([self.runs[run].cka for run in runs], axis=0)
        rows = tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in mean)
        seeds = f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"
        return Heatmap(
            title=f"Layers of {arm} against the teacher's",
            how_to_read=(
                f"{self.variant}, {seeds}: 1 = equal up to rotation and scale, 0 = unrelated. "
                "Compare the students' maps with the baseline's, which never saw the teacher."
            ),
            values=rows,
            rows=tuple(self.runs[runs[0]].layers),
            columns=tuple(self.teacher_layers),
            row_label=arm,
            column_label="teacher",
            low=0.0,
            high=1.0,
        )

    def _table(self) -> Table:
        rows = tuple(
            (run, layer, other, None if np.isnan(value) else round(float(value), 4))
            for run, at in self.runs.items()
            for layer, values in zip(at.layers, at.cka, strict=True)
            for other, value in zip(self.teacher_layers, values, strict=True)
            if layer == other
        )
        return Table(
            title="CKA of equal layers",
            how_to_read="The diagonal of the maps, run by run.",
            columns=("run", "layer", "teacher layer", "CKA"),
            rows=rows,
            name="cka",
        )


@metric(
    "cka",
    title="Feature similarity (CKA)",
    question="Do teacher and student layers carry the same geometry?",
    source="Kornblith et al. 2019, arXiv:1905.00414, section 3; Nguyen et al. 2021, "
    "arXiv:2010.15327, equations 2-4",
    better="neither",
    range=(-1.0, 1.0),
    ranged=("cka",),
    place=60,
)
def cka(study: Study, scope: Scope, *, images: int = 512, batch: int = 128) -> Inquiry[Similarity]:
    """Linear CKA by unbiased minibatch HSIC, every layer with every layer of the teacher.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)), HSIC averaged over minibatches by its
    unbiased estimator, so that the value does not depend on the number of images; it can be a
    little below 0. At the last epoch that the learners share.
    """
    teacher = the_teacher(study)
    runs = followed(study)
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    if min(images, scope.available) < SMALLEST:
        raise NotApplicable(f"needs at least {SMALLEST} images, found {scope.available}")
    others = scope.similarity_layers[teacher.id]
    asked = {
        run: sight(
            "hsic",
            study.final(run),
            teacher.last,
            images=images,
            layers=scope.similarity_layers[run.id],
            others=others,
            batch=batch,
        )
        for run in runs
    }
    seen = yield list(asked.values())
    found = {}
    for run, wanted in asked.items():
        table = normalised(*(seen[wanted][part] for part in ("cross", "first", "second")))
        found[run.id] = LayerSimilarity(scope.similarity_layers[run.id], table)
    variant = f"linear CKA, unbiased minibatch HSIC, batches of {batch}"
    count = min(int(seen[wanted]["images"]) for wanted in asked.values())
    return Similarity(variant, count, others, found, roles_of(runs))
