"""How distilled and residual features are shown: effects by layer, and a table of all pairs.

Axes: l layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Heatmap, Panel, Table
from kdprobe.stats import Difference

QUANTITIES = {  # field -> column
    "fss": "FSS",
    "fss_baseline": "FSS of baseline",
    "distilled": "RS distilled",
    "residual": "RS residual",
    "beyond": "beyond the baseline",
    "shared": "shared with the baseline",
}


@dataclass(frozen=True)
class Distillate:
    """One student and the baseline of its seed; all (l,)."""

    baseline: str
    fss: Array  # likeness of the student's features to the teacher's
    fss_baseline: Array  # of the baseline's
    distilled: Array  # relevance to the classes of what the student alone has
    residual: Array  # of what the baseline alone has
    beyond: Array  # what student and teacher share that the baseline has not
    shared: Array  # what student and baseline share
    errors: Array  # (6, l) standard errors over images, of the six above
    p_value: Array  # of the relevance of distilled features, by shuffled labels


@dataclass(frozen=True)
class Distilled:
    """Every student against the baseline of its seed."""

    images: int
    classes: int
    layers: Sequence[str]  # (l,)
    students: Mapping[str, Distillate]
    strangers: Mapping[str, Array]  # (l,) the same of a baseline against one of another seed
    roles: Roles = page_only()
    relevance: Mapping[str, Difference] = page_only()  # by arm and layer: distilled - residual
    closeness: Mapping[str, Difference] = page_only()  # alike: FSS of student - of baseline
    unseen: Sequence[str] = page_only()

    def lacking(self) -> Sequence[str]:
        return self.unseen

    def findings(self) -> list[str]:
        worse = [name for name, d in self.relevance.items() if d.high < 0]
        if not worse:
            return []
        return [
            "what the student alone has is less about the classes than what the baseline alone "
            f"has: {', '.join(worse)}"
        ]

    def panels(self) -> list[Panel]:
        found: list[Panel] = [
            forest(
                "Relevance of distilled against residual features",
                "RS distilled - RS residual",
                self.relevance,
                "Above 0, what the student alone has tells more of the classes than what the "
                f"baseline alone has.{self._one_class()}",
                what="RS of distilled minus RS of residual features",
            ),
            forest(
                "Likeness to the teacher",
                "FSS of student - FSS of baseline",
                self.closeness,
                "Above 0 the student's features are nearer to the teacher's than those of a "
                "network that never saw it.",
            ),
            self._map(),
            self._table(),
        ]
        return found

    def _one_class(self) -> str:
        if self.classes > 1:
            return ""
        return " No value: all images are of one class; raise distilled.images."

    def _map(self) -> Heatmap:
        rows: dict[str, Array] = {}
        for field, told in (("beyond", "beyond"), ("distilled", "RS distilled")):
            for (arm, _), runs in by_arm(self.roles, self.students).items():
                own = [getattr(self.students[run], field) for run in runs]
                rows[f"{told} · {arm}"] = np.mean(own, axis=0)
            if field in self.strangers:
                rows[f"{told} · baseline of another seed"] = self.strangers[field]
        reading = (
            "Beyond: what student and teacher share and the baseline has not, 0 = nothing, "
            "1 = all that is left. RS distilled: how much of what the student alone has is about "
            "the classes. Mean over seeds."
        )
        if self.strangers:
            reading += (
                " A baseline of another seed in the student's place shows what an independent "
                "network has beyond a baseline that never saw the teacher either."
            )
        return Heatmap(
            title="What the student has beyond its baseline",
            how_to_read=reading,
            values=tuple(tuple(_known(x) for x in row) for row in rows.values()),
            rows=tuple(rows),
            columns=tuple(self.layers),
            row_label="quantity · arm",
            column_label="layer",
        )

    def _table(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for run, at in self.students.items():
            for place, layer in enumerate(self.layers):
                pairs = (
                    (getattr(at, field)[place], at.errors[q, place])
                    for q, field in enumerate(QUANTITIES)
                )
                told = (_short(x) for pair in pairs for x in pair)
                rows.append((run, at.baseline, layer, *told, _short(at.p_value[place])))
        titles = (name for title in QUANTITIES.values() for name in (title, f"± {title}"))
        return Table(
            title="Distilled and residual features, pair by pair",
            how_to_read=(
                f"On {self.images} held-out images of {self.classes} classes, ± one standard error "
                "over images; p: share of shuffles of the labels that reach RS distilled. No value "
                "where a layer does not vary, or where one network explains all of the other."
            ),
            columns=("student", "baseline", "layer", *titles, "p RS distilled"),
            rows=tuple(rows),
            name="distilled",
        )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _short(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
