"""Where does a student clearly differ from the baseline?  One sentence a difference and arm.

Clear is what has an interval without zero and, where the metric adjusts its p-values, one below
0.05. Differences of one kind at several layers are told once, by the clearest of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, isclose
from typing import Any

from kdprobe.panels import Forest
from kdprobe.report.finding import Finding, listed
from kdprobe.report.numbers import interval
from kdprobe.report.sentences import SENTENCES, Sentence
from kdprobe.results import MetricReport, Results

LEVEL = 0.05
PRECISE = 0.01  # smaller ratios are told by their digits, not their decimals
CEILING = 50.0  # of strength: seeds that agree to the last digit by chance prove no more


@dataclass(frozen=True)
class Gap:
    """Student minus baseline with its 95% interval; `p` only where it is adjusted (Holm)."""

    arm: str
    part: str  # layer, method or other part of the network; empty where it is of all of it
    effect: float
    low: float
    high: float
    p: float | None = None

    @property
    def clear(self) -> bool:
        """Whether it has a sign that the interval allows to be told.

        Seeds that are all alike, as where epochs are counted, tell nothing of their spread.
        """
        known = self.high > self.low and (self.p is None or self.p < LEVEL)
        return known and (self.low > 0 or self.high < 0)

    @property
    def strength(self) -> float:
        """Its size in half-widths of its interval; above 1 is clear."""
        half = (self.high - self.low) / 2
        return min(abs(self.effect) / half, CEILING) if half > 0 else CEILING

    def times(self, factor: float) -> "Gap":
        """In another unit."""
        ends = {end: getattr(self, end) * factor for end in ("effect", "low", "high")}
        return replace(self, **ends)

    def told(self, sentence: Sentence) -> str:
        """Its numbers in the unit of `sentence`."""
        scaled = self.times(sentence.unit)
        if sentence.ratio:
            ends = [exp(end) for end in (scaled.effect, scaled.low, scaled.high)]
            form = ".2f" if min(ends) >= PRECISE else ".2g"
            return "{} [{}, {}]".format(*(f"{end:{form}}" for end in ends))
        return interval(scaled)


def differences(results: Results) -> Iterator[Finding]:
    """Of every sentence and sign the clearest arm, with the others that it is true of."""
    for sentence, gaps in told_gaps(results):
        for sign in (1, -1):
            same = [gap for gap in gaps if gap.clear and sign * gap.effect > 0]
            if same:
                yield _one(results, sentence, same)


def told_gaps(results: Results) -> Iterator[tuple[Sentence, list[Gap]]]:
    """All the differences at the place of each sentence, clear or not."""
    arms = {run.arm for run in results.study.runs}
    for metric in results.metrics:
        known = [sentence for sentence in SENTENCES if sentence.metric == metric.key]
        for sentence in known or _titles(metric):
            read = _of_plots(metric, sentence) if sentence.plot else _at(metric, sentence)
            found = list(_gaps(read, arms))
            if sentence.part:
                found = [replace(gap, part="") for gap in found if gap.part == sentence.part]
            yield sentence, found


def _titles(metric: MetricReport) -> list[Sentence]:
    """Of a metric that no sentence knows: its forest plots, told by their titles."""
    titles = {panel.title: panel.x_label for panel in metric.panels if isinstance(panel, Forest)}
    words = {title: f"{title}: {{gap}} ({unit}){{where}}" for title, unit in titles.items()}
    return [
        Sentence(metric.key, (title,), told, told, at="of", plot=True)
        for title, told in words.items()
    ]


def _of_plots(metric: MetricReport, sentence: Sentence) -> dict[str, Any]:
    return {
        row.name: {"effect": row.value, "low": row.low, "high": row.high}
        for panel in metric.panels
        if isinstance(panel, Forest) and panel.title.startswith(sentence.path[0])
        for row in panel.effects
    }


def _at(metric: MetricReport, sentence: Sentence) -> Any:
    values: Any = metric.values
    for step in sentence.path:
        values = values.get(step) if isinstance(values, dict) else None
    return values


def plot_of(results: Results, key: str, gap: Gap) -> str:
    """The title of the forest plot of metric `key` that draws `gap`, in whatever unit it does."""
    metric = results.metric(key)
    wanted = (gap.effect, gap.low, gap.high)
    for panel in metric.panels if metric else ():
        if isinstance(panel, Forest) and any(
            row.name.startswith(gap.arm) and _alike((row.value, row.low, row.high), wanted)
            for row in panel.effects
        ):
            return panel.title
    return ""


def _alike(row: tuple[float | None, ...], wanted: tuple[float, ...]) -> bool:
    """Whether both are the same numbers but for a factor."""
    known = [value for value in row if value is not None]
    if len(known) < len(wanted) or known[-1] <= known[1]:
        return False
    factor = (wanted[2] - wanted[1]) / (known[2] - known[1])
    return all(isclose(a * factor, b, rel_tol=1e-6) for a, b in zip(known, wanted, strict=True))


def _one(results: Results, sentence: Sentence, gaps: list[Gap]) -> Finding:
    """The clearest of `gaps`, which are of one sign, where else it is so, and of whom."""
    best = max(gaps, key=lambda gap: gap.strength)
    words = sentence.above if best.effect > 0 else sentence.below
    also = [gap.part for gap in gaps if gap.arm == best.arm and gap is not best]
    where = _where(sentence, best)
    if also:
        where += f" (likewise {sentence.at} {listed(also)})"
    what = words.replace("{gap}", best.told(sentence)).replace("{where}", where)
    mates = [
        max((gap for gap in gaps if gap.arm == arm), key=lambda gap: gap.strength)
        for arm in dict.fromkeys(gap.arm for gap in gaps if gap.arm != best.arm)
    ]
    if mates:
        told = [f"{gap.arm}, {gap.told(sentence)}{_where(sentence, gap)}" for gap in mates]
        what += f"; likewise {listed(told)}"
    arms = (best.arm, *(gap.arm for gap in mates))
    return Finding(
        best.arm,
        what,
        f"metric-{sentence.metric}",
        "difference",
        best.strength,
        arms,
        plot_of(results, sentence.metric, best),
    )


def _where(sentence: Sentence, gap: Gap) -> str:
    return f" {sentence.at} {gap.part}" if gap.part else ""


def _gaps(found: Any, arms: set[str]) -> Iterator[Gap]:
    """From a table by arm, or by arm and part, or from rows that name both."""
    if isinstance(found, dict):
        rows = [(*_parted(key, arms), row) for key, row in found.items()]
    elif isinstance(found, list):
        named = [row for row in found if isinstance(row, dict)]
        rows = [(str(row.get("arm", "")), str(row.get("layer", "")), row) for row in named]
    else:
        rows = []
    for arm, part, row in rows:
        gap = gap_of(row, arm, part)
        if gap is not None:
            yield gap


def gap_of(row: Any, arm: str, part: str = "") -> Gap | None:
    """The difference in `row`, or None where it has no interval."""
    if not isinstance(row, dict):
        return None
    effect, low, high = (_number(row.get(name)) for name in ("effect", "low", "high"))
    if effect is None or low is None or high is None:
        return None
    adjusted = row.get("p")  # so called where it is adjusted; p_value where it stands alone
    return Gap(arm, part, effect, low, high, _number(adjusted))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _parted(key: str, arms: set[str]) -> tuple[str, str]:
    """``kd: stage2`` is arm kd and its part stage2; the longest arm that it begins with."""
    arm = max((arm for arm in arms if key.startswith(arm)), key=len, default=key)
    return arm, key[len(arm) :].strip(" :,·")
