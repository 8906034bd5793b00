"""Which panels tell a comparison?  Chapters of plain data, for tables and for every output."""

from kdprobe.comparing.gate import Gate
from kdprobe.comparing.record import Comparison
from kdprobe.panels import Cell, Panel, Table
from kdprobe.report.comparison_rows import where
from kdprobe.report.document import Chapter


def comparison_chapters(
    comparison: Comparison, gates: tuple[Gate, ...] = ()
) -> tuple[Chapter, ...]:
    """Everything in a comparison: sides and caveats, differences, ranks, verdicts, gaps."""
    return (
        Chapter("sides", "What is compared", _sides(comparison)),
        *([Chapter("gates", "Gates", (_gates(gates),))] if gates else []),
        Chapter("differences", "Differences", _differences(comparison)),
        Chapter("values", "Numbers of every run", (_values(comparison),)),
        Chapter("ranking", "Ranking", (_ranking(comparison),)),
        *(
            [Chapter("verdicts", "Verdicts", (verdict_table(comparison),))]
            if comparison.verdicts
            else []
        ),
        *(
            [Chapter("missing", "Missing", (missing_table(comparison),))]
            if comparison.missing
            else []
        ),
    )


def _sides(comparison: Comparison) -> tuple[Panel, ...]:
    rows = tuple(
        (side.name, side.study, side.arm or None, side.role, ", ".join(side.runs))
        for side in comparison.sides
    )
    columns = ("side", "study", "arm", "role", "runs")
    sides = Table(title="Sides", columns=columns, rows=rows, name="sides")
    return (sides, caveat_table(comparison)) if comparison.caveats else (sides,)


def caveat_table(comparison: Comparison) -> Table:
    """In what the studies are not alike."""
    return Table(
        title="Not alike",
        how_to_read="A difference between the sides may come from any of these.",
        columns=("what", "found"),
        rows=tuple((caveat.subject, caveat.what) for caveat in comparison.caveats),
        name="caveats",
    )


def _gates(gates: tuple[Gate, ...]) -> Table:
    rows = tuple(
        (gate.rule, "passed" if gate.passed else "failed", gate.checked)
        + tuple("\n".join(lines) for lines in (gate.failing, gate.undecided, gate.unknown))
        for gate in gates
    )
    columns = ("fails if", "outcome", "places judged", "where", "by the means alone", "unknown")
    return Table(title="Gates", columns=columns, rows=rows, name="gates")


def _differences(comparison: Comparison) -> tuple[Panel, ...]:
    rows = tuple(
        (d.quantity, *_at(comparison, d.at), d.side, d.baseline, d.effect, d.low, d.high)
        + (d.p_value, d.outcome, "yes" if d.paired else "no", d.seeds)
        for d in comparison.differences
    )
    columns = ("quantity", *coordinates(comparison), "side", "baseline", "difference", "low")
    table = Table(
        title="Every difference",
        how_to_read=(
            "Side minus baseline with its 95% interval over seeds; p is adjusted (Holm) over the "
            "places and sides of the quantity. Fewer than three seeds decide nothing."
        ),
        columns=columns + ("high", "p (Holm)", "outcome", "paired by seed", "seeds"),
        rows=rows,
        name="differences",
    )
    return (table,)


def _values(comparison: Comparison) -> Table:
    rows = tuple(
        (row.quantity, *_at(comparison, row.at), side.name, point.run, point.seed, point.value)
        for row in comparison.rows
        for side, sample in zip(comparison.sides, row.samples, strict=True)
        for point in sample.points
    )
    columns = ("quantity", *coordinates(comparison), "side", "run", "seed", "value")
    return Table(title="Numbers of every run", columns=columns, rows=rows, name="values")


def _ranking(comparison: Comparison) -> Table:
    rows = tuple(
        (r.quantity, *_at(comparison, r.at), r.side, r.rank, r.low, r.high)
        + (r.shares[0] if r.shares else None,)
        for r in comparison.ranking
    )
    columns = ("quantity", *coordinates(comparison), "side", "rank", "low", "high", "first in")
    return Table(
        title="Ranks",
        how_to_read=(
            "1 = best, or highest where no direction is better. Interval, and the share of draws "
            "in which the side is first, over draws of seeds; none with fewer than three."
        ),
        columns=columns,
        rows=rows,
        name="ranking",
    )


def verdict_table(comparison: Comparison) -> Table:
    """Every hypothesis at every place, a column a side."""
    shown = judged(comparison)
    return Table(
        title="Hypotheses side by side",
        how_to_read="Each study's own verdict, as its results.json holds it.",
        columns=("claim", "where", *(comparison.sides[place].name for place in shown), "changed"),
        rows=tuple(
            (entry.claim, where(entry.at), *(entry.outcomes[place] for place in shown))
            + ("yes" if entry.changed else "no",)
            for entry in comparison.verdicts
        ),
        name="verdicts",
    )


def judged(comparison: Comparison) -> list[int]:
    """The places of the sides of which some hypothesis is judged."""
    return [
        place
        for place in range(len(comparison.sides))
        if any(entry.outcomes[place] is not None for entry in comparison.verdicts)
    ]


def missing_table(comparison: Comparison) -> Table:
    """What one side lacks where another has it."""
    return Table(
        title="What a side lacks",
        columns=("quantity", "side", "places", "why"),
        rows=tuple((m.quantity, m.side, m.rows, m.reason) for m in comparison.missing),
        name="missing",
    )


def coordinates(comparison: Comparison) -> tuple[str, ...]:
    """The names of all coordinates, in the order they are met."""
    return tuple(dict.fromkeys(key for row in comparison.rows for key in row.at))


def _at(comparison: Comparison, at: dict[str, str]) -> tuple[Cell, ...]:
    return tuple(at.get(key) for key in coordinates(comparison))
