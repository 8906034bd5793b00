"""What a comparison found: one frozen record that the table, the page and the gate read."""

import json
from typing import Literal

import numpy as np

from kdprobe.panels import Frozen
from kdprobe.results import Outcome, Role

By = Literal["study", "arm", "run"]
Better = Literal["higher", "lower", "neither"]
Change = Literal["better", "worse", "higher", "lower", "equal", "undecided"]
At = dict[str, str]  # coordinate -> name: arm, layer, map ...


class Side(Frozen):
    """One of the things that are compared: a study, an arm of a study, or a run."""

    name: str
    study: str
    arm: str = ""  # empty where a side is a whole study
    role: Role | None = None  # likewise
    runs: tuple[str, ...]


class Compared(Frozen):
    """A quantity: which metric gives it, which way is better, what it is in words."""

    name: str
    metric: str
    title: str  # of the metric
    better: Better
    meaning: str
    leading: bool = False


class Point(Frozen):
    """The number of one run."""

    run: str
    seed: int | None
    value: float


class Sample(Frozen):
    """The numbers of one side: one a run; empty where it has none."""

    points: tuple[Point, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """As they stand, in the order of the runs."""
        return tuple(point.value for point in self.points)

    @property
    def mean(self) -> float | None:
        """Over the runs; None where there is none."""
        return float(np.mean(self.values)) if self.points else None


class Row(Frozen):
    """One quantity at one place, of every side in the order of the comparison's sides."""

    quantity: str
    at: At
    samples: tuple[Sample, ...]


class Difference(Frozen):
    """A side minus the baseline, in the quantity's unit."""

    quantity: str
    at: At
    side: str
    baseline: str
    effect: float
    low: float | None  # 95% interval over seeds; None with fewer than three on a side
    high: float | None
    p_value: float | None  # two-sided, Holm over the places and sides of the quantity
    paired: bool  # by seed
    seeds: int  # of the side with fewer
    outcome: Change


class Rank(Frozen):
    """The place of a side among all sides, 1 = best (highest, where no direction is better)."""

    quantity: str
    at: At
    side: str
    rank: float  # by the means; sides of equal mean share the middle of their places
    low: int | None = None  # 95% interval over draws of seeds; None with fewer than three
    high: int | None = None
    shares: tuple[float, ...] = ()  # of the draws in which it has rank 1, 2, ...


class SideBySide(Frozen):
    """One hypothesis at one place, as every side's results judge it."""

    claim: str
    statement: str
    at: At
    outcomes: tuple[Outcome | None, ...]  # in the order of the sides; None: not judged
    changed: bool  # some side is judged otherwise than the baseline


class Caveat(Frozen):
    """Something that makes the sides less than comparable."""

    subject: str
    what: str


class Missing(Frozen):
    """A quantity that a side lacks where another has it."""

    quantity: str
    side: str
    rows: int
    reason: str


class Comparison(Frozen):
    """Results side by side."""

    kdprobe_version: str
    by: By
    baseline: str  # name of a side
    sides: tuple[Side, ...]
    quantities: tuple[Compared, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    ranking: tuple[Rank, ...]
    verdicts: tuple[SideBySide, ...] = ()
    caveats: tuple[Caveat, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def others(self) -> tuple[Side, ...]:
        """All sides but the baseline."""
        return tuple(side for side in self.sides if side.name != self.baseline)

    def quantity(self, name: str) -> Compared:
        """The quantity called `name`. Raises KeyError where it is not compared."""
        return {entry.name: entry for entry in self.quantities}[name]

    def to_json(self) -> str:
        """The text of compare.json."""
        data = self.model_dump(mode="json")
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"

    def against(self, baseline: str) -> "Comparison":
        """The same sides against another baseline. Raises UsageError where there is none such."""
        from kdprobe.comparing.comparison import against  # it builds this record

        return against(self, baseline)

    def failing(self, rule: str, *, confident: bool = False) -> tuple[str, ...]:
        """One line for every place at which `rule` is true; empty when the gate is passed.

        Args:
            rule: such as ``rho[layer=logits] < baseline - 0.05``; see `kdprobe/comparing/gate.py`.
            confident: demand that the 95% interval over seeds says so too.

        Raises:
            UsageError: the rule cannot be read, or names what is not compared.
        """
        from kdprobe.comparing.gate import judge_rule  # it reads this record

        return judge_rule(self, rule, confident=confident).failing
