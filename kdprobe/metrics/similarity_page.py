"""How likeness to the teacher is shown: measure by measure, layer by layer, and who is alike whom.

Axes: u measures, l layers, r learners.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array, Roles, by_arm, page_only
from kdprobe.metrics.effects import forest
from kdprobe.metrics.measures import INVARIANCES, MEASURES
from kdprobe.panels import Cell, Forest, Heatmap, Panel, Table
from kdprobe.stats import Difference


@dataclass(frozen=True)
class Likeness:
    """One network against the teacher."""

    similarity: Array  # (u, l)
    error: Array  # (u, l) standard error over images


@dataclass(frozen=True)
class Chance:
    """What unrelated geometries would give."""

    run: str  # whose layers were compared with shuffled images
    level: Array  # (u, l) mean over shuffles
    p_value: Array  # (u, l)


@dataclass(frozen=True)
class Likenesses:
    """Every learner against the teacher, by several measures."""

    images: int
    measures: Sequence[str]  # (u,)
    layers: Sequence[str]  # (l,)
    runs: Mapping[str, Likeness]
    chance: Mapping[str, Chance]  # by arm
    to_baseline: Mapping[str, Array]  # by student arm (u, l): with the baseline of the seed
    between_seeds: Mapping[str, Array]  # by arm (u, l): its runs with each other
    constant: Sequence[str]  # layers that have no geometry
    unseen: Sequence[str] = page_only()
    roles: Roles = page_only()
    shown: int = page_only()  # the layer of the effects
    effects: Sequence[Mapping[str, Difference]] = page_only()  # (u,) by arm, at that layer
    everyone: Array = page_only()  # (u, 1 + r, 1 + r) at that layer, the teacher first

    def lacking(self) -> Sequence[str]:
        return self.unseen

    def findings(self) -> list[str]:
        return [told for arm in self._effects_by_arm() for told in self._disagreement(arm)]

    def panels(self) -> list[Panel]:
        compared = self._forest()
        found: list[Panel] = [self._by_layer(), *([compared] if compared else [])]
        found += [self._who_is_alike(), self._definitions(), self._table(), self._chance_table()]
        return found

    def _effects_by_arm(self) -> dict[str, dict[str, Difference]]:
        arms: dict[str, dict[str, Difference]] = {}
        for measure, found in zip(self.measures, self.effects, strict=True):
            for arm, difference in found.items():
                arms.setdefault(arm, {})[measure] = difference
        return arms

    def _disagreement(self, arm: str) -> Iterator[str]:
        """A sentence where one measure says nearer to the teacher, and another farther."""
        found = self._effects_by_arm()[arm]
        nearer = [MEASURES[u].title for u, d in found.items() if d.low > 0]
        farther = [MEASURES[u].title for u, d in found.items() if d.high < 0]
        if nearer and farther:
            yield (
                f"at {self.layers[self.shown]}, {arm} is nearer to the teacher than the baseline "
                f"by {' and '.join(nearer)}, and farther by {' and '.join(farther)}"
            )

    def _by_layer(self) -> Heatmap:
        arms = by_arm(self.roles, self.runs)
        rows = {
            f"{MEASURES[measure].title} · {arm}": np.mean(
                [self.runs[run].similarity[u] for run in runs], axis=0
            )
            for u, measure in enumerate(self.measures)
            for (arm, _), runs in arms.items()
        }
        gone = f" No value: {', '.join(self.constant)} does not vary." if self.constant else ""
        return Heatmap(
            title="Likeness to the teacher, by measure and layer",
            how_to_read=(
                "1 = equal but for what the measure does not see; mean over seeds. Compare the "
                "rows of one measure: the baseline never saw the teacher. Measures are not "
                f"comparable with each other, see their levels of chance.{gone}"
            ),
            values=tuple(tuple(_known(x) for x in row) for row in rows.values()),
            rows=tuple(rows),
            columns=tuple(self.layers),
            row_label="measure · arm",
            column_label="layer",
            low=0.0,
            high=1.0,
        )

    def _forest(self) -> Forest | None:
        found = {
            f"{arm} · {MEASURES[measure].title}": difference
            for arm, by_measure in self._effects_by_arm().items()
            for measure, difference in by_measure.items()
        }
        if not found:
            return None
        return forest(
            f"Nearer to the teacher than the baseline, at {self.layers[self.shown]}",
            "likeness to the teacher, student minus baseline",
            found,
            "Above 0 the student's layer is more alike the teacher's than that of a network that "
            "never saw it.",
        )

    def _who_is_alike(self) -> Heatmap:
        chosen = self.measures.index("procrustes") if "procrustes" in self.measures else 0
        names = ("teacher", *self.runs)
        return Heatmap(
            title=f"Who is alike whom at {self.layers[self.shown]}",
            how_to_read=(
                f"{MEASURES[self.measures[chosen]].title} of all networks. Baselines of different "
                "seeds show how alike networks become that know nothing of each other; learners of "
                "one seed began alike."
            ),
            values=tuple(tuple(_known(x) for x in row) for row in self.everyone[chosen]),
            rows=names,
            columns=names,
            low=0.0,
            high=1.0,
        )

    def _definitions(self) -> Table:
        told = [MEASURES[key] for key in self.measures]
        return Table(
            title="The measures, and what each does not see",
            how_to_read=(
                "A measure is unchanged by what is marked yes: "
                + "; ".join(f"{name} = {what}" for name, what in INVARIANCES.items())
                + "."
            ),
            columns=("measure", "definition", "source", *INVARIANCES),
            rows=tuple(
                (m.title, m.definition, m.source)
                + tuple("yes" if name in m.invariances else "no" for name in INVARIANCES)
                for m in told
            ),
        )

    def _table(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for run, at in self.runs.items():
            for place, layer in enumerate(self.layers):
                pairs = zip(at.similarity[:, place], at.error[:, place], strict=True)
                rows.append((run, layer, *(_short(x) for pair in pairs for x in pair)))
        return Table(
            title="Likeness to the teacher's layer of the same name",
            how_to_read=f"On {self.images} held-out images, ± one standard error over images.",
            columns=("run", "layer", *self._columns("±")),
            rows=tuple(rows),
            name="similarity",
        )

    def _chance_table(self) -> Table:
        rows: list[tuple[Cell, ...]] = []
        for arm, at in self.chance.items():
            for place, layer in enumerate(self.layers):
                pairs = zip(at.level[:, place], at.p_value[:, place], strict=True)
                rows.append((arm, layer, *(_short(x) for pair in pairs for x in pair)))
        return Table(
            title="Likeness by chance",
            how_to_read=(
                "Mean over shuffles of the teacher's images, for the first run of an arm, and the "
                "share of shuffles that reach what was found. Geometries of many directions are "
                "alike by chance; independent networks of one task are more alike than that, which "
                "the baseline shows."
            ),
            columns=("arm", "layer", *self._columns("p")),
            rows=tuple(rows),
            name="similarity_by_chance",
        )

    def _columns(self, second: str) -> tuple[str, ...]:
        titles = [MEASURES[measure].title for measure in self.measures]
        return tuple(name for title in titles for name in (title, f"{second} {title}"))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _short(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
