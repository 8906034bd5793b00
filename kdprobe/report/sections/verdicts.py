"""What stands behind each verdict?  Every estimate with its interval, as one table."""

from kdprobe.panels import Panel, Table
from kdprobe.report.sections.contract import section
from kdprobe.results import Estimate, Results, Verdict

COLUMNS = (
    "claim",
    "arm",
    "layer",
    "outcome",
    "quantity",
    "wanted",
    "effect",
    "low",
    "high",
    "p (Holm)",
    "seeds",
    "images",
    "robust",
)
ROBUST = {True: "yes", False: "no", None: None}


@section("verdicts", title="Verdicts", place=10)
def verdicts(results: Results) -> list[Panel]:
    """All estimates of all verdicts; the templates show the same as cards above it."""
    if not results.verdicts:
        return []
    rows = tuple(
        _row(verdict, estimate)
        for verdict in results.verdicts
        for estimate in verdict.estimates or (None,)
    )
    how = "Effect is student minus baseline, with its 95% interval; p is adjusted (Holm)."
    return [
        Table(title="Every estimate", how_to_read=how, columns=COLUMNS, rows=rows, name="verdicts")
    ]


def _row(verdict: Verdict, estimate: Estimate | None) -> tuple[str | int | float | None, ...]:
    head = (verdict.claim, verdict.arm, verdict.layer)
    tail = (verdict.seeds, verdict.images, ROBUST[verdict.robust])
    if estimate is None:
        return (*head, verdict.outcome, *(None,) * 6, *tail)
    numbers = (estimate.effect, estimate.low, estimate.high, estimate.p_value)
    return (*head, estimate.outcome, estimate.quantity, estimate.wanted, *numbers, *tail)
