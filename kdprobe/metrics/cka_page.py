"""What is said of CKA on the page?  The result of the metric `cka`, as panels.

Axes: s layers of a network, t layers of the teacher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Forest, Heatmap, Panel, Table
from kdprobe.stats import Difference

LEVEL = 0.05  # of the test against permuted images


@dataclass(frozen=True)
class Beside:
    """One network's layers and those of the same name of another, or the mean over others."""

    others: Sequence[str]  # runs
    layers: Sequence[str]  # (s,)
    cka: Array  # (s,)
    error: Array  # (s,) standard error
    p: Array  # (s,)

    @property
    def named(self) -> dict[str, float]:
        return dict(zip(self.layers, self.cka.tolist(), strict=True))


@dataclass(frozen=True)
class LayerSimilarity:
    """One network's layers against another's."""

    layers: Sequence[str]  # (s,)
    cka: Array  # (s, t)
    error: Array  # (s, t) standard error; NaN of too few images
    p: Array  # (s, t) against permuted images, for all pairs of the study at once
    null: Array = page_only()  # (s, t) the CKA above which p is below LEVEL

    def equals(self, others: Sequence[str], names: Sequence[str]) -> Beside:
        """The layers that `names`, those of the other network, have too."""
        shared = [name for name in self.layers if name in names]
        at = [list(self.layers).index(name) for name in shared]
        to = [list(names).index(name) for name in shared]
        return Beside(others, shared, self.cka[at, to], self.error[at, to], self.p[at, to])

    def matched(self, names: Sequence[str]) -> dict[str, float]:
        """CKA of each layer with the one of its name."""
        return self.equals((), names).named


@dataclass(frozen=True)
class Gap:
    """Student minus baseline of the same seed, of one arm at one layer."""

    arm: str
    layer: str
    effect: float
    low: float  # 95% over seeds; NaN below three
    high: float
    seeds: int
    p: float  # adjusted by Holm over all arms and layers


@dataclass(frozen=True)
class Similarity:
    """Every network's layers against the teacher's, and against a baseline's."""

    variant: str
    images: int
    permutations: int
    teacher_layers: Sequence[str]  # (t,)
    runs: Mapping[str, LayerSimilarity]  # with the teacher
    beside: Mapping[str, Beside]  # with the baseline of the seed; a baseline: with other seeds'
    nearer_teacher: Sequence[Gap]  # CKA with the teacher, layers of equal names
    nearer_baseline: Sequence[Gap]  # CKA with a baseline
    roles: Roles = page_only()
    refused: Mapping[str, str] = page_only()  # run -> reason

    def panels(self) -> list[Panel]:
        arms = by_arm(self.roles, self.runs)
        maps = [self._heatmap(arm, runs) for (arm, _), runs in arms.items()]
        return [*maps, self._null(), *self._forests(), *self._gaps(), self._table()]

    def findings(self) -> list[str]:
        """Layers that have no CKA."""
        dead: dict[str, list[str]] = {}
        for run, at in self.runs.items():
            for layer, values in zip(at.layers, at.cka, strict=True):
                if np.isnan(values).all():
                    dead.setdefault(layer, []).append(run)
        alike = [
            name
            for name, column in zip(self.teacher_layers, self._columns, strict=True)
            if np.isnan(column).all()
        ]
        if alike:
            return [f"the teacher's {', '.join(alike)}: {SAME}"]
        return [f"layer {layer} of {', '.join(runs)}: {SAME}" for layer, runs in dead.items()]

    def lacking(self) -> list[str]:
        """Networks that could not be looked at."""
        return [f"{run}: {reason}" for run, reason in self.refused.items()]

    @property
    def _columns(self) -> Array:
        """(t, all layers of all runs)."""
        return np.concatenate([at.cka for at in self.runs.values()]).T

    def _heatmap(self, arm: str, runs: Sequence[str]) -> Heatmap:
        alike = [run for run in runs if self.runs[run].layers == self.runs[runs[0]].layers]
        mean = np.mean([self.runs[run].cka for run in alike], axis=0)
        p = np.stack([self.runs[run].p for run in alike])
        seeds = f"mean of {len(alike)} seeds" if len(alike) > 1 else "one seed"
        chance, count = int((p >= LEVEL).sum()), int((~np.isnan(p)).sum())
        return Heatmap(
            title=f"Layers of {arm} against the teacher's",
            how_to_read=(
                f"{self.variant}; {seeds}: 1 = equal up to rotation and scale, 0 = unrelated. "
                f"Not above what {self.permutations} permutations of the images show: {chance} of "
                f"{count} values (p < {LEVEL:g} for all pairs at once). Networks that learn the "
                "same task are alike without a teacher: compare the students' maps with the "
                "baseline's, which never saw it."
            ),
            values=tuple(tuple(_known(x, 6) for x in row) for row in mean),
            rows=tuple(self.runs[alike[0]].layers),
            columns=tuple(self.teacher_layers),
            row_label=arm,
            column_label="teacher",
            low=0.0,
            high=1.0,
        )

    def _null(self) -> Heatmap:
        """What chance alone reaches, on the scale of the maps beside it."""
        first = next(iter(self.runs.values()))
        alike = [at.null for at in self.runs.values() if at.layers == first.layers]
        return Heatmap(
            title="What chance reaches",
            how_to_read=(
                f"The null of the maps beside it: {self.permutations} times the images of one "
                "network changed places. Only values above it have p < "
                f"{LEVEL:g}, for all pairs at once; the highest of all networks is shown."
            ),
            values=tuple(tuple(_known(x, 6) for x in row) for row in np.fmax.reduce(alike)),
            rows=tuple(first.layers),
            columns=tuple(self.teacher_layers),
            row_label="any network",
            column_label="teacher, images permuted",
            low=0.0,
            high=1.0,
        )

    def _forests(self) -> list[Forest]:
        found = []
        if self.nearer_teacher:
            found.append(
                forest(
                    "More like the teacher than an independent network is",
                    "CKA with the teacher's layer, difference",
                    _differences(self.nearer_teacher),
                    "Above 0: the layer is more like the teacher's layer of its name than that of "
                    "a network which never saw the teacher.",
                )
            )
        if self.nearer_baseline:
            found.append(
                forest(
                    "More like the baseline than another seed's baseline is",
                    "CKA with the baseline's layer, difference",
                    _differences(self.nearer_baseline),
                    "CKA of student and baseline of one seed minus CKA of baselines of different "
                    "seeds. Below 0: distillation moves the layer further than another seed does. "
                    "Runs of one seed that begin with the same weights are more alike for that.",
                )
            )
        return found

    def _gaps(self) -> list[Table]:
        kinds = {"teacher": self.nearer_teacher, "baseline": self.nearer_baseline}
        rows = tuple(
            (gap.arm, gap.layer, other, *(_known(x) for x in (gap.effect, gap.low, gap.high)))
            + (gap.seeds, _known(gap.p))
            for other, gaps in kinds.items()
            for gap in gaps
        )
        if not rows:
            return []
        return [
            Table(
                title="CKA: student minus baseline",
                how_to_read=(
                    "With the teacher: beyond the baseline of the seed. With the baseline: beyond "
                    "baselines of other seeds. 95% intervals over seeds; p is adjusted by Holm "
                    "over all arms and layers of one kind; fewer than three seeds decide nothing."
                ),
                columns=("arm", "layer", "CKA with", "difference", "low", "high", "seeds", "p"),
                rows=rows,
                name="cka_differences",
            )
        ]

    def _table(self) -> Table:
        return Table(
            title="CKA of layers of equal names",
            how_to_read=(
                "± is one standard error, a jackknife over images; p against permuted images, for "
                "all pairs of layers of the study at once. Beside: the baseline of the same seed; "
                "for a baseline the mean over the other seeds', which is what independently "
                "trained networks have in common."
            ),
            columns=("run", "layer", "CKA with teacher", "±", "p")
            + ("beside", "CKA beside", "± ", "p "),
            rows=tuple(row for run in self.runs for row in self._rows(run)),
            name="cka",
        )

    def _rows(self, run: str) -> list[tuple[Cell, ...]]:
        at, beside = self.runs[run].equals((), self.teacher_layers), self.beside.get(run)
        layers = list(dict.fromkeys([*at.layers, *(beside.layers if beside else ())]))
        return [
            (run, layer, *_of(at, layer), ", ".join(beside.others) if beside else None)
            + _of(beside, layer)
            for layer in layers
        ]


SAME = "gives every image the same features, or most pairs of them; it has no CKA"


def _of(at: Beside | None, layer: str) -> tuple[Cell, ...]:
    if at is None or layer not in at.layers:
        return None, None, None
    place = list(at.layers).index(layer)
    return _known(at.cka[place]), _known(at.error[place]), _known(at.p[place])


def _known(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _differences(gaps: Sequence[Gap]) -> dict[str, Difference]:
    return {
        f"{gap.arm}, {gap.layer}": Difference(gap.effect, gap.low, gap.high, gap.p, gap.seeds, 0)
        for gap in gaps
    }
