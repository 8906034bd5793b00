"""What is told of forgetting?  The courses of the runs, how alike their orders are, and panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.answers import cell, percent
from kdprobe.metrics.contract import Array, Roles, arm_series, page_only
from kdprobe.metrics.effects import forest
from kdprobe.panels import Lines, Panel, Series, Table
from kdprobe.stats import Difference


@dataclass(frozen=True)
class Course:
    """What one network learned and forgot over its checkpoints after epoch 0."""

    role: str
    epochs: Sequence[int]  # (k,)
    events: float  # right answers lost from one checkpoint to the next, a mean image
    events_error: float  # standard error over images
    events_by_chance: float  # if every checkpoint were right on other images
    never_right: float  # share of images
    never_right_error: float
    never_forgotten: float  # share of images: right once, and from then on
    never_forgotten_error: float
    learning_epoch: float  # mean, of the images that are right at the end; NaN without any
    learning_epoch_error: float
    settled: Array = page_only()  # (k,) share of images that are right from here on


@dataclass(frozen=True)
class Likeness:
    """How alike two kinds of network order the images: mean over pairs of networks."""

    kind: str
    pairs: int
    rho: float  # Spearman's rank correlation of learning epochs
    error: float  # standard error over images
    least: float  # of the pairs
    greatest: float


@dataclass(frozen=True)
class Forgetting:
    """Learning and forgetting of held-out images over training."""

    images: int
    runs: Mapping[str, Course]
    order: Sequence[Likeness]
    order_null: float  # standard deviation of Spearman's rho of shuffled images
    fewer: Mapping[str, Difference]  # arm: forgetting events an image, student minus baseline
    nearer: Mapping[str, Difference]  # arm: rho with the teacher, student minus baseline
    lost: Sequence[str]
    roles: Roles = page_only()

    def panels(self) -> list[Panel]:
        shown: list[Panel] = [self._figure()]
        if self.fewer:
            reading = "Left of the line: less is forgotten on the way than by the baseline."
            what = "forgetting events an image"
            shown.append(forest("Forgetting against the baseline", what, self.fewer, reading))
        if self.nearer:
            reading = (
                "Right of the line: images are learned more in the teacher's order than the "
                "baseline learns them."
            )
            what = "Spearman's ρ with the teacher"
            shown.append(forest("Order of learning like the teacher's", what, self.nearer, reading))
        return [*shown, self._table(), *([self._orders()] if self.order else [])]

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost

    def _figure(self) -> Lines:
        learners = {run: one for run, one in self.runs.items() if one.role != "teacher"}
        epochs = next(iter(learners.values())).epochs
        return Lines(
            title="Images learned for good",
            how_to_read=(
                f"Share of {self.images} held-out images that are answered right from this "
                "checkpoint to the last one, which is compared; at the last it is the accuracy. "
                "Bands span the seeds; every network over its own epochs."
            ),
            x_label="epoch",
            y_label="share of images",
            series=(
                *(
                    Series.over_seeds(run, one.epochs, one.settled[None], one.role)
                    for run, one in self.runs.items()
                    if one.role == "teacher"
                ),
                *arm_series(self.roles, epochs, {r: one.settled for r, one in learners.items()}),
            ),
        )

    def _table(self) -> Table:
        rows = tuple(
            (run, c.role, len(c.epochs), cell(c.events, 4), cell(c.events_error, 4))
            + (cell(c.events_by_chance, 4), percent(c.never_right), percent(c.never_right_error))
            + (percent(c.never_forgotten), percent(c.never_forgotten_error))
            + (cell(c.learning_epoch), cell(c.learning_epoch_error))
            for run, c in self.runs.items()
        )
        return Table(
            title="Forgetting of every run",
            how_to_read=(
                f"Over {self.images} held-out images; ± is one standard error. An event: right at "
                "one checkpoint, wrong at the next. By chance: as many as if the right answers "
                "of every checkpoint fell on other images, its accuracy kept. Never forgotten: "
                "right at some checkpoint and at all later ones. Learned at: mean epoch from "
                "which an image stays right, of those right at the end. More checkpoints see "
                "more events: compare runs of equal epochs, not the teacher."
            ),
            columns=("run", "role", "checkpoints", "events", "± events", "events by chance")
            + ("never right %", "± never right", "never forgotten %", "± never forgotten")
            + ("learned at (epoch)", "± epochs"),
            rows=rows,
            name="forgetting",
        )

    def _orders(self) -> Table:
        rows = tuple(
            (one.kind, one.pairs, cell(one.rho, 3), cell(one.error, 3))
            + (cell(one.least, 3), cell(one.greatest, 3))
            for one in self.order
        )
        return Table(
            title="Order of learning",
            how_to_read=(
                "Spearman's ρ of the epochs at which two networks learn the images, mean over "
                "pairs of networks; ± is one standard error over images. Shuffled images would "
                f"give {1.96 * self.order_null:.2f} or more, either way, once in twenty times. "
                "Hard images are late for every network, so read two baselines first: "
                "more than that is due to the teacher, or to equal initial weights where "
                "the seed is the same."
            ),
            columns=("pair", "pairs", "ρ", "±", "least", "greatest"),
            rows=rows,
            name="learning-order",
        )


def share_error(hits: Array) -> tuple[float, float]:
    """The part of (n,) bool that is True, and its standard error."""
    share = float(hits.mean())
    return share, float(np.sqrt(share * (1 - share) / len(hits)))
