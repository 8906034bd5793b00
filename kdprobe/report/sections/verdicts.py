"""What stands behind each verdict?  Every estimate with its interval, as one table."""

from collections.abc import Iterator

from kdprobe.panels import Cell, Panel, Table
from kdprobe.report.sections.contract import section
from kdprobe.results import AgainstControl, Results, Verdict

COLUMNS = (
    "claim",
    "arm",
    "layer",
    "against",
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
        row
        for verdict in results.verdicts
        for control in (None, *verdict.controls)
        for row in _rows(verdict, control)
    )
    how = (
        "Effect is student minus baseline, or minus the control that is named, with its 95% "
        "interval; p is adjusted (Holm)."
    )
    return [
        Table(title="Every estimate", how_to_read=how, columns=COLUMNS, rows=rows, name="verdicts")
    ]


def _rows(verdict: Verdict, control: AgainstControl | None) -> Iterator[tuple[Cell, ...]]:
    """Against the baseline or a control: a row an estimate, one row where there is none."""
    judged = control or verdict
    against = f"control {control.arm}" if control else "baseline"
    head = (verdict.claim, verdict.arm, verdict.layer, against)
    tail = (judged.seeds, judged.images, None if control else ROBUST[verdict.robust])
    for estimate in judged.estimates:
        numbers = (estimate.effect, estimate.low, estimate.high, estimate.p_value)
        yield (*head, estimate.outcome, estimate.quantity, estimate.wanted, *numbers, *tail)
    if not judged.estimates:
        yield (*head, judged.outcome, *(None,) * 6, *tail)
