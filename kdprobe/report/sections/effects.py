"""How large are the differences that the verdicts rest on?  A forest plot for each quantity."""

from kdprobe.panels import Effect, Forest, Panel
from kdprobe.report.sections.contract import section
from kdprobe.results import Estimate, Results, Verdict

READING = (
    "{quantity}: {meaning}. Student minus baseline of the same seed with its 95% interval; {claim} "
    "wants it {side} of the dashed line, which is no difference."
)
SIDES = {"higher": "right", "lower": "left"}


@section(
    "effects",
    title="Effects behind the verdicts",
    place=12,
    question="How large are the differences that the verdicts rest on?",
    definition=(
        "Mean over seeds of student minus baseline of the same seed. Interval: effect ± t(0.975, "
        "r - 1) · error, r seeds; error is that of a bootstrap of seeds and images together, and "
        "no less than that of the seeds' effects."
    ),
    source="Owen 2007, The pigeonhole bootstrap; the quantities are those of the claims' sources",
)
def effects(results: Results) -> list[Panel]:
    """One plot a claim and quantity, in the quantity's unit: a row an arm and layer."""
    found: dict[tuple[str, str], list[tuple[Verdict, Estimate]]] = {}
    for verdict in results.verdicts:
        for estimate in verdict.estimates:
            found.setdefault((verdict.claim, estimate.quantity), []).append((verdict, estimate))
    return [_forest(claim, quantity, rows) for (claim, quantity), rows in found.items()]


def _forest(claim: str, quantity: str, rows: list[tuple[Verdict, Estimate]]) -> Forest:
    first = rows[0][1]
    return Forest(
        title=f"{claim}: {quantity}",
        how_to_read=READING.format(
            quantity=quantity,
            meaning=first.meaning or "as its claim defines it",
            claim=claim,
            side=SIDES[first.wanted],
        ),
        x_label=f"{quantity}, student minus baseline",
        effects=tuple(_effect(verdict, estimate) for verdict, estimate in rows),
    )


def _effect(verdict: Verdict, estimate: Estimate) -> Effect:
    name = ", ".join(part for part in (verdict.arm, verdict.layer) if part)
    return Effect(
        name=name,
        value=estimate.effect,
        low=estimate.low,
        high=estimate.high,
        verdict=estimate.outcome,
    )
