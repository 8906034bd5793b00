"""What is told of the classes?  Accuracy and gains class by class, and their panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.answers import cell
from kdprobe.metrics.contract import Array
from kdprobe.panels import Cell, Heatmap, Panel, Table, Text
from kdprobe.stats import FEWEST_TOLD

SHOWN, LISTED = 20, 40  # classes in the figure, and in the table
LEVEL = 0.05


@dataclass(frozen=True)
class ArmAccuracy:
    """How often the networks of an arm are right on the images of a class."""

    accuracy: Array  # (c,) mean over seeds; NaN without images
    error: Array  # (c,) standard error over images


@dataclass(frozen=True)
class Gains:
    """An arm of students less the baseline of the same seed, class by class."""

    effect: Array  # (c,) difference in accuracy; NaN without images
    low: Array  # (c,) 95% interval; NaN for a class of few images
    high: Array
    p_value: Array  # (c,) adjusted for the number of classes (Holm)
    unevenness: float  # standard deviation of a seed's gains over the classes


@dataclass(frozen=True)
class ByClass:
    """Every arm on every class."""

    names: Sequence[str]  # (c,)
    images: Array  # (c,)
    arms: Mapping[str, ArmAccuracy]
    gains: Mapping[str, Gains]
    unevenness_by_chance: float  # of two baselines of different seeds; NaN of a single one
    lost: Sequence[str] = ()

    def panels(self) -> list[Panel]:
        told = [self._least()] if self.gains else []
        return [self._figure(), *told, self._table()]

    def findings(self) -> list[str]:
        """Arms of students that are worse than the baseline on a class, beyond doubt."""
        return [told for arm in self.gains for told in self._worse(arm)]

    def _worse(self, arm: str) -> list[str]:
        gains = self.gains[arm]
        sure = (gains.effect < 0) & (gains.p_value < LEVEL) & (self.images >= FEWEST_TOLD)
        worse = np.flatnonzero(sure)
        if not len(worse):
            return []
        k = int(worse[np.argmin(gains.effect[worse])])
        others = len(worse) - 1
        more = f", and on {others} other class{'es' if others > 1 else ''}" if others else ""
        return [
            f"{arm} is worse than the baseline on class {self.names[k]!r}: "
            f"{self._gain(gains, k)}; p = {gains.p_value[k]:.2g} among all classes{more}"
        ]

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost

    def _chosen(self, most: int) -> list[int]:
        """All classes in order, or of many those with the largest changes, these first."""
        if len(self.names) <= most:
            return list(range(len(self.names)))
        if self.gains:
            change = np.nan_to_num(np.abs([one.effect for one in self.gains.values()])).max(0)
        else:
            change = np.nan_to_num(1 - np.mean([a.accuracy for a in self.arms.values()], axis=0))
        return [int(k) for k in np.argsort(-change, kind="stable")[:most]]

    def _limit(self, chosen: Sequence[int]) -> str:
        left = len(self.names) - len(chosen)
        what = "largest changes" if self.gains else "least accuracy"
        told = f" Only the {len(chosen)} classes of the {what}; {left} more are left out."
        empty = [name for name, count in zip(self.names, self.images, strict=True) if not count]
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        none = f" Without a test image: {', '.join(empty[:SHOWN])}{more}." if empty else ""
        return (told if left else "") + none

    def _figure(self) -> Heatmap:
        chosen = self._chosen(SHOWN)
        gained = {arm: 100 * one.effect for arm, one in self.gains.items()}
        plain = {arm: 100 * one.accuracy for arm, one in self.arms.items()}
        table = gained or plain
        known = [x for v in gained.values() for x in v if np.isfinite(x)]
        title = "Gain of every class" if gained else "Accuracy of every class"
        reading = (
            "Percentage points that students are more often right than the baseline of the same "
            "seed, mean over seeds; see the table for intervals."
            if gained
            else "Per cent of the held-out images of a class that are answered right, mean over "
            "seeds; no baseline shares a seed with a student, so there are no gains."
        )
        return Heatmap(
            title=title,
            how_to_read=reading + self._limit(chosen),
            values=tuple(tuple(cell(v[k]) for v in table.values()) for k in chosen),
            rows=tuple(self.names[k] for k in chosen),
            columns=tuple(table),
            row_label="class",
            column_label="arm",
            low=min([0.0, *known]),
            high=max([1.0, *known]) if gained else 100.0,
        )

    def _least(self) -> Text:
        told = []
        for arm, gains in self.gains.items():
            least, most = int(np.nanargmin(gains.effect)), int(np.nanargmax(gains.effect))
            told.append(
                f"{arm}: class {self.names[least]!r} gains least, {self._gain(gains, least)}; "
                f"class {self.names[most]!r} most, {self._gain(gains, most)}. A seed's gains "
                f"spread by {100 * gains.unevenness:.1f} points over the classes."
            )
        if np.isfinite(self.unevenness_by_chance):
            told.append(
                "Differences between two baselines of other seeds spread by "
                f"{100 * self.unevenness_by_chance:.1f} points: as much is chance of training."
            )
        return Text(title="Where least and most is gained", text=" ".join(told))

    @staticmethod
    def _gain(gains: Gains, k: int) -> str:
        told = f"{100 * gains.effect[k]:+.1f} points"
        if not np.isfinite(gains.low[k]):
            return told
        return f"{told} (95% interval {100 * gains.low[k]:.1f} to {100 * gains.high[k]:.1f})"

    def _table(self) -> Table:
        chosen = self._chosen(LISTED)
        return Table(
            title="Accuracy and gains by class",
            how_to_read=(
                "Mean over seeds; ± is one standard error over the images of the class. Gain: "
                "student minus baseline of the same seed, with its 95% interval over seeds and "
                "images; p is adjusted for the number of classes (Holm). Classes of fewer than "
                "five images, or with the same gain on all, have no interval; the first screen "
                f"tells only of classes of at least {FEWEST_TOLD} images." + self._limit(chosen)
            ),
            columns=("class", "images", "arm", "accuracy %", "± %")
            + ("gain (points)", "from", "to", "p"),
            rows=tuple(self._row(k, arm) for k in chosen for arm in self.arms),
            name="classes",
        )

    def _row(self, k: int, arm: str) -> tuple[Cell, ...]:
        at = self.arms[arm]
        row = (self.names[k], int(self.images[k]), arm)
        shares = tuple(cell(100 * x[k]) for x in (at.accuracy, at.error))
        if arm not in self.gains:
            return (*row, *shares, None, None, None, None)
        g = self.gains[arm]
        gain = tuple(cell(100 * x[k]) for x in (g.effect, g.low, g.high))
        return (*row, *shares, *gain, cell(g.p_value[k], 4))
