"""What do the answers of the students tell?  Errors they copied, classes they lost, overdone trust.

As `differences.py`, of numbers that a sentence with one blank cannot tell.
"""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from kdprobe.report.differences import Gap, gap_of, plot_of
from kdprobe.report.finding import Finding, listed
from kdprobe.report.numbers import interval
from kdprobe.results import Results
from kdprobe.stats import FEWEST_TOLD

COPIED = "agreement_when_teacher_wrong"


def gaps(results: Results) -> Iterator[Gap]:
    """All differences to the baseline that are looked at here, clear or not."""
    yield from _copying(results)
    for found in _classwise(results):
        yield from found


def copied(results: Results) -> Iterator[Finding]:
    """Students that give the teacher's wrong answers clearly more, or less, than the baseline."""
    values = _values(results, "fidelity")
    wrong = values.get("teacher_errors")
    for gap in _copying(results):
        arm = gap.arm
        shares = [
            run[COPIED]
            for run in _rows(values, "runs")
            if run.get("arm") == arm and run.get(COPIED) is not None
        ]
        if not gap.clear or not shares:
            continue
        what = (
            f"copies {100 * fmean(shares):.0f}% of the teacher's {wrong} wrong answers, "
            f"{interval(gap.times(100))} points against the baseline"
        )
        yield _told(results, "fidelity", gap, what)


def exaggerated(results: Results) -> Iterator[Finding]:
    """Students that are surer than the teacher the surer it is."""
    values = _values(results, "exaggeration")
    students = {run.arm for run in results.study.runs if run.role == "student"}
    for arm, row in _table(values, "above_one").items():
        gap = gap_of(row, arm)
        if arm in students and gap is not None and gap.low > 0:
            what = (
                "exaggerates the teacher's confidence: its log-odds grow "
                f"{1 + gap.effect:.2f} [{1 + gap.low:.2f}, {1 + gap.high:.2f}] times as fast"
            )
            yield _told(results, "exaggeration", gap, what)


def classes(results: Results) -> Iterator[Finding]:
    """Classes that a student clearly names less often right than the baseline, or more often."""
    for seen in _classwise(results):
        clear = [gap for gap in seen if gap.clear]
        for word, found in (
            ("lost", [gap for gap in clear if gap.effect < 0]),
            ("gained", [gap for gap in clear if gap.effect > 0]),
        ):
            if not found:
                continue
            best = max(found, key=lambda gap: abs(gap.effect))
            also = [f"'{gap.part}'" for gap in found if gap is not best]
            more = f" (likewise {listed(also)})" if also else ""
            what = (
                f"{word} accuracy in class '{best.part}': {interval(best.times(100))} points "
                f"against the baseline{more}"
            )
            yield _told(results, "classes", best, what)


def _told(results: Results, key: str, gap: Gap, what: str) -> Finding:
    shown = plot_of(results, key, gap)
    return Finding(
        gap.arm, what, f"metric-{key}", "difference", gap.strength, (gap.arm,), panel=shown
    )


def _copying(results: Results) -> list[Gap]:
    """Of each arm the share of the teacher's errors that it gives too, less the baseline's."""
    values = _values(results, "fidelity")
    wrong = values.get("teacher_errors")
    if not isinstance(wrong, int) or wrong < FEWEST_TOLD:
        return []
    found = [gap_of(row, arm) for arm, row in _table(values, "effects", COPIED).items()]
    return [gap for gap in found if gap is not None]


def _classwise(results: Results) -> Iterator[list[Gap]]:
    """Of each arm the gains by class."""
    values = _values(results, "classes")
    for arm, row in _table(values, "gains").items():
        yield list(_by_class(row, arm, values))


def _by_class(row: Any, arm: str, values: dict[str, Any]) -> Iterator[Gap]:
    """The gains of `arm` in the classes that have enough images to speak of."""
    if not isinstance(row, dict):
        return
    columns = [values.get(key) for key in ("names", "images")]
    columns += [row.get(key) for key in ("effect", "low", "high", "p_value")]
    if not all(isinstance(column, list) for column in columns):
        return
    for name, images, effect, low, high, p in zip(*columns, strict=False):
        gap = gap_of({"effect": effect, "low": low, "high": high, "p": p}, arm, name)
        if gap is not None and images >= FEWEST_TOLD:
            yield gap


def _values(results: Results, key: str) -> dict[str, Any]:
    metric = results.metric(key)
    return dict(metric.values) if metric else {}


def _rows(values: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The rows that stand at `key`, where there are any."""
    found = values.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _table(values: dict[str, Any], *path: str) -> dict[str, Any]:
    """What stands at `path`, where it is a table."""
    found: Any = values
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
