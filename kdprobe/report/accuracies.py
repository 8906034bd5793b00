"""How accurate is each network, as the metric ``accuracy`` found it, and what has it gained?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean

from kdprobe.pairing import pairs_by_arm
from kdprobe.results import Results, RunSummary
from kdprobe.stats import of_shares, over_runs


@dataclass(frozen=True)
class Accuracy:
    """The share of held-out images that a network names right, and its standard error."""

    share: float
    error: float


@dataclass(frozen=True)
class Gain:
    """A difference of two shares, and its 95% interval over seeds where it has one."""

    effect: float | None
    low: float | None = None
    high: float | None = None
    pairs: int = 0  # seeds in common with the baseline


def accuracies(results: Results) -> dict[str, Accuracy]:
    """By run id; empty when the metric was not asked for."""
    report = results.metric("accuracy")
    rows = report.values.get("runs") if report else None
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(share := row.get("accuracy"), int | float):
            error = row.get("error")
            found[str(row.get("run"))] = Accuracy(
                float(share), float(error) if isinstance(error, int | float) else 0.0
            )
    return found


def chance_level(results: Results) -> float:
    """The share that guesses find right where all classes are as frequent."""
    return 1 / max(len(results.study.classes), 1)


def gain_over_baseline(results: Results, members: Sequence[RunSummary]) -> Gain:
    """Accuracy of `members` minus that of the baselines of their seeds, a share.

    Where no seed is the same it is minus the mean of all baselines, and has no interval.
    """
    known = accuracies(results)
    ours = [run for run in members if run.id in known]
    base = [run for run in results.study.runs if run.role == "baseline" and run.id in known]
    pairs = _pairs(ours, base)
    if not pairs:
        means = [fmean(known[run.id].share for run in side) for side in (ours, base) if side]
        return Gain(means[0] - means[1] if len(means) == 2 else None)
    left, right = ([known[run.id].share for run in side] for side in zip(*pairs, strict=True))
    found = of_shares(over_runs(left, right))
    if isnan(found.low):
        return Gain(found.effect, pairs=len(pairs))
    return Gain(found.effect, found.low, found.high, len(pairs))


def _pairs(ours: list[RunSummary], base: list[RunSummary]) -> list[tuple[RunSummary, RunSummary]]:
    """With the baseline of equal seed; a control is paired as a student would be."""
    alike = [run.model_copy(update={"role": "student"}) for run in ours]
    return next(iter(pairs_by_arm([*base, *alike]).values()), [])
