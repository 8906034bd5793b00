"""What is told of fidelity?  The records of a run and of the study, and their panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from kdprobe.metrics.answers import cell, percent
from kdprobe.metrics.effects import forest
from kdprobe.panels import Cell, Forest, Heatmap, Panel, Table
from kdprobe.stats import FEWEST_TOLD, Difference

SHARES = {  # effects in points, and what the page calls them
    "agreement": "agreement",
    "agreement_when_teacher_right": "teacher right",
    "agreement_when_teacher_wrong": "copied errors",
}
LEVEL = 0.05
ALONE = " No baseline shares a seed with a student, so no difference to it is shown."


@dataclass(frozen=True)
class RunFidelity:
    """One network against the teacher."""

    run: str
    role: str
    arm: str
    agreement: float  # share of images with the same top-1 answer
    agreement_error: float  # standard error
    agreement_when_teacher_right: float | None
    agreement_when_teacher_right_error: float | None  # standard error, over those images alone
    agreement_when_teacher_wrong: float | None  # share of the teacher's wrong answers given too
    agreement_when_teacher_wrong_error: float | None
    wrong_too: float | None  # share of the teacher's errors on which it errs as well
    chance: float | None  # of copied errors, if its answers depended on the class alone
    chance_when_wrong: float | None  # the same, if it errs where it does
    beyond_chance: float | None  # copied less chance_when_wrong
    beyond_chance_error: float | None  # standard error
    kl: float  # mean KL(teacher || network), nats, at temperature 1
    kl_error: float  # standard error over images
    kl_at: Sequence[float]  # at each temperature, nats, not multiplied by its square
    kl_at_error: Sequence[float]


@dataclass(frozen=True)
class Fidelities:
    """Baselines, students and controls against the teacher."""

    images: int
    teacher_errors: int  # images that the teacher answers wrong
    temperatures: Sequence[float]
    runs: Sequence[RunFidelity]
    effects: Mapping[str, Mapping[str, Difference]]  # quantity -> arm; student minus baseline
    lost: Sequence[str] = ()

    def panels(self) -> list[Panel]:
        forests = [self._shares(), self._divergences()]
        shown = [panel for panel in forests if panel.effects]
        if not self.teacher_errors:
            return [*shown, self._table()]
        return [*shown, self._transfer(), self._table(), self._copied()]

    def findings(self) -> list[str]:
        """Arms that copy more or fewer of the teacher's errors than the baseline gives anyway."""
        told: list[str] = []
        if self.teacher_errors < FEWEST_TOLD:
            return told
        for arm, found in self.effects.get("agreement_when_teacher_wrong", {}).items():
            if found.p_value < LEVEL:
                shares = [
                    r.agreement_when_teacher_wrong
                    for r in self.runs
                    if r.arm == arm and r.agreement_when_teacher_wrong is not None
                ]
                told.append(
                    f"{arm} gives {100 * sum(shares) / len(shares):.0f}% of the teacher's wrong "
                    f"answers too, {abs(100 * found.effect):.0f} points "
                    f"{'more' if found.effect > 0 else 'less'} than the baseline, which never saw "
                    f"the teacher ({_interval(found)}{self.teacher_errors} images)"
                )
        return told

    def lacking(self) -> Sequence[str]:
        """Networks whose answers could not be used."""
        return self.lost

    def _shares(self) -> Forest:
        rows = {
            f"{arm}, {told}": _points(found)
            for quantity, told in SHARES.items()
            for arm, found in self.effects.get(quantity, {}).items()
        }
        reading = (
            "Right of the line: answers as the teacher does more often than a network that never "
            f"saw it. Copied errors: the same wrong answer, on the {self.teacher_errors} images "
            f"that the teacher gets wrong; of fewer than {FEWEST_TOLD} the first screen tells "
            "nothing of it. Intervals end at 100 points; where all images agree there is none."
        )
        return forest("Agreement gained over the baseline", "percentage points", rows, reading)

    def _divergences(self) -> Forest:
        rows = {
            f"{arm}, T = {quantity.removeprefix('kl at ')}": found
            for quantity, arms in self.effects.items()
            if quantity.startswith("kl at ")
            for arm, found in arms.items()
        }
        reading = "Left of the line: nearer to the teacher's probabilities than the baseline is."
        return forest("Divergence from the teacher", "KL(teacher ‖ network), nats", rows, reading)

    def _transfer(self) -> Heatmap:
        arms = dict.fromkeys(run.arm for run in self.runs)
        rows = [[_fates(run) for run in self.runs if run.arm == arm] for arm in arms]
        return Heatmap(
            title="Error transfer",
            how_to_read=(
                f"Mean over seeds. The first three columns share the {self.teacher_errors} images "
                "that the teacher gets wrong: what the network makes of its errors; copied by "
                "chance is what its own errors alone would give, on the same images. Own errors "
                "are on the images that the teacher gets right."
            ),
            values=tuple(
                tuple(_middle(column) for column in zip(*row, strict=True)) for row in rows
            ),
            rows=tuple(arms),
            columns=("copied", "wrong otherwise", "put right", "copied by chance", "own errors"),
            row_label="arm",
            column_label="% of the images",
            low=0.0,
            high=100.0,
        )

    def _table(self) -> Table:
        others = [q for q, t in enumerate(self.temperatures) if t != 1]
        columns: tuple[str, ...] = ("run", "role", "agreement %", "± %") + (
            "where teacher is right %",
            "± right %",
            "where teacher is wrong %",
            "± wrong %",
            "KL (nats)",
            "± nats",
        )
        for q in others:
            at = f"at T={self.temperatures[q]:g}"
            columns += (f"KL {at} (nats)", f"± {at}")
        return Table(
            title="Agreement with the teacher",
            how_to_read=(
                f"On {self.images} held-out images; ± is one standard error, over few images where "
                "the teacher is wrong. A student that agrees there gives the teacher's wrong "
                "answers; the baseline shows how much agreement needs no teacher. KL at "
                "temperature T is not multiplied by T², as the loss of Hinton et al. would be."
                + ("" if self.effects else ALONE)
            ),
            columns=columns,
            rows=tuple(_row(run, others) for run in self.runs),
            name="fidelity",
        )

    def _copied(self) -> Table:
        rows = tuple(
            (r.run, r.role, percent(r.agreement_when_teacher_wrong))
            + (percent(r.agreement_when_teacher_wrong_error), percent(r.wrong_too))
            + (percent(r.chance), percent(r.chance_when_wrong))
            + (percent(r.beyond_chance), percent(r.beyond_chance_error))
            for r in self.runs
        )
        columns = ("run", "role", "copied %", "± %", "wrong too %", "by chance %") + (
            "by chance where wrong too %",
            "beyond that, points",
            "± points",
        )
        return Table(
            title="Errors copied from the teacher",
            how_to_read=(
                f"Over the {self.teacher_errors} images that the teacher gets wrong. Copied: the "
                "same wrong answer. By chance: the mean share of other images of that class to "
                "which the network gives this answer, so its answers depend on the class alone. "
                "By chance where wrong too: it errs where it does, and which wrong answer it gives "
                "is drawn from its own errors on other images of that class (with one more, spread "
                "evenly). Networks of one data set share hard images and likely confusions: "
                "compare with the baseline."
            ),
            columns=columns,
            rows=rows,
            name="copied-errors",
        )


def _fates(run: RunFidelity) -> tuple[float | None, ...]:
    """Shares of images; what is not known is None."""
    copied, wrong = run.agreement_when_teacher_wrong, run.wrong_too
    return (
        copied,
        None if copied is None or wrong is None else wrong - copied,
        None if wrong is None else 1 - wrong,
        run.chance_when_wrong,
        None if run.agreement_when_teacher_right is None else 1 - run.agreement_when_teacher_right,
    )


def _middle(shares: Sequence[float | None]) -> float | None:
    """The mean of the known ones, as a per cent."""
    known = [share for share in shares if share is not None]
    return percent(fmean(known)) if known else None


def _row(run: RunFidelity, others: Sequence[int]) -> tuple[Cell, ...]:
    shares = (
        (run.agreement, run.agreement_error)
        + (run.agreement_when_teacher_right, run.agreement_when_teacher_right_error)
        + (run.agreement_when_teacher_wrong, run.agreement_when_teacher_wrong_error)
    )
    nats = [run.kl, run.kl_error]
    for q in others:
        nats += [run.kl_at[q], run.kl_at_error[q]]
    return (run.run, run.role, *map(percent, shares), *(cell(value, 4) for value in nats))


def _interval(found: Difference) -> str:
    if not np.isfinite(found.low):
        return ""
    return f"95% interval of the difference {100 * found.low:.0f} to {100 * found.high:.0f}; "


def _points(found: Difference) -> Difference:
    return Difference(
        100 * found.effect,
        100 * found.low,
        100 * found.high,
        found.p_value,
        found.seeds,
        found.images,
    )
