"""What deserves attention?  Doubts first, then clear differences, then remarks of the metrics.

Everything is read from results.json; what a metric does not tell is not looked for.
"""

import re
from collections.abc import Callable, Iterator

from kdprobe.report import answers, differences, doubts
from kdprobe.report.finding import KINDS, Finding
from kdprobe.results import Results

Look = Callable[[Results], Iterator[Finding]]

LOOKS: tuple[Look, ...] = (
    doubts.problems,
    doubts.guessing,
    doubts.lost_to_controls,
    doubts.fragile,
    doubts.outliers,
    doubts.weak_teacher,
    doubts.few_seeds,
    doubts.uncontrolled,
    answers.copied,
    answers.classes,
    answers.exaggerated,
    differences.differences,
)
SHOWN = 6  # on the first screen; the others are folded
DOUBTS = 3  # of them at most, so that there is room for what was found
SAME = {  # a remark of the metric and a difference with this word say the same of an arm
    "metric-fidelity": "wrong answers",
    "metric-calibration": "ECE",
    "metric-exaggeration": "log-odds",
    "metric-classes": "class",
}


def findings(results: Results) -> tuple[Finding, ...]:
    """All findings; the first `SHOWN`, of every kind the weightiest, are for the first screen."""
    found = [finding for look in LOOKS for finding in look(results)]
    fresh = [finding for finding in found if not _said_already(finding, found)]
    ranked = sorted(fresh, key=lambda one: (KINDS.index(one.kind), -one.weight))
    doubtful = [one for one in ranked if one.kind == "doubt"]
    others = [one for one in ranked if one.kind != "doubt"]
    room = max(DOUBTS, SHOWN - len(others))
    return (*doubtful[:room], *others[: SHOWN - room], *doubtful[room:], *others[SHOWN - room :])


def _said_already(remark: Finding, found: list[Finding]) -> bool:
    word = SAME.get(remark.anchor, "")
    if remark.kind != "remark" or not word or word not in remark.what:
        return False
    return any(
        one.kind == "difference"
        and one.anchor == remark.anchor
        and word in one.what
        and any(re.search(rf"(?<!\w){re.escape(arm)}(?!\w)", remark.what) for arm in one.arms)
        for one in found
    )


def _about(count: float) -> str:
    return f"up to about {count:.0f}" if count >= 1 else "fewer than one"


def caution(results: Results) -> str:
    """How many differences were looked at, and what chance alone would give of them."""
    gaps = [gap for _, found in differences.told_gaps(results) for gap in found]
    gaps = [gap for gap in (*gaps, *answers.gaps(results)) if gap.high > gap.low]
    clear = sum(gap.clear for gap in gaps)
    if not clear:
        return ""
    return (
        f"{clear} of {len(gaps)} differences to the baseline that were looked at are clear of "
        f"zero; chance alone would give {_about(len(gaps) * differences.LEVEL)}."
    )
