"""What is told first: the decided, the leading, the surest; no spread is no certainty."""

from math import inf

import pytest
from comparable import quantity, sample, side

from kdprobe.comparing.comparison import against
from kdprobe.comparing.record import Comparison, Row
from kdprobe.report.comparison_bases import data
from kdprobe.report.comparison_order import strength, strongest

BASE = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def compared(*rows: tuple[str, tuple[float, ...], tuple[float, ...]]) -> Comparison:
    """One row of two sides for each quantity."""
    samples = [(sample(*base), sample(*other)) for _, base, other in rows]
    unjudged = Comparison(
        kdprobe_version="0",
        by="arm",
        baseline="a",
        sides=(side("a", "x"), side("b", "y")),
        quantities=tuple(quantity(name) for name, _, _ in rows),
        rows=tuple(
            Row(quantity=name, at={}, samples=pair)
            for (name, _, _), pair in zip(rows, samples, strict=True)
        ),
        differences=(),
        ranking=(),
    )
    return against(unjudged, "a")


def moved(*by: float) -> tuple[float, ...]:
    return tuple(base + step for base, step in zip(BASE, by, strict=False))


def test_what_all_seeds_agree_on_stands_where_its_p_value_puts_it():
    clear = moved(1.0, 1.1, 1.2, 0.9, 1.0, 1.1)  # p of about 1e-6
    found = compared(
        ("weak", BASE, moved(1, 2, 3, 0.1, 4, 1)),
        ("agreed", BASE, moved(*[1] * 6)),
        ("clear", BASE, clear),
    )
    gaps = {d.quantity: d for d in found.differences}
    assert gaps["agreed"].low == gaps["agreed"].high
    assert gaps["agreed"].p_value == 2**-5
    assert gaps["clear"].p_value < gaps["weak"].p_value < gaps["agreed"].p_value
    assert [d.quantity for d in strongest(found)] == ["clear", "weak", "agreed"]
    assert strength(gaps["agreed"]) == inf > strength(gaps["clear"]) > strength(gaps["weak"]) > 1


def test_of_equal_p_values_the_one_without_width_is_first_and_then_the_clearer():
    found = compared(*((name, BASE, moved(*[1] * 6)) for name in ("one", "two")))
    wide = [d.model_copy(update={"low": 0.5, "high": 1.5}) for d in found.differences[:1]]
    mixed = found.model_copy(update={"differences": (*wide, *found.differences[1:])})
    assert [d.quantity for d in strongest(mixed)] == ["two", "one"]


@pytest.mark.parametrize("seeds", [3, 5])
def test_few_seeds_that_agree_decide_nothing(seeds):
    found = compared(("agreed", BASE[:seeds], moved(*[1] * seeds)))
    assert [d.outcome for d in found.differences] == ["undecided"]
    assert strongest(found) == []


def test_equal_numbers_are_no_difference_however_narrow_their_interval():
    found = compared(("same", BASE, BASE), ("rounded", (0.9,) * 6, (0.3 * 3,) * 6))
    assert {d.effect for d in found.differences} == {0.0}
    assert [strength(d) for d in found.differences] == [0.0, 0.0]
    assert strongest(found) == []
    assert data(found)["gaps"][0][0][4] is None


def test_leading_quantities_come_before_surer_ones():
    found = compared(
        ("other", BASE, moved(1.0, 1.1, 1.2, 0.9, 1.0, 1.1)),
        ("main", BASE, moved(1, 2, 3, 0.1, 4, 1)),
    )
    main = found.quantities[1].model_copy(update={"leading": True})
    found = found.model_copy(update={"quantities": (found.quantities[0], main)})
    assert [d.quantity for d in strongest(found)] == ["main", "other"]
    assert [gap[4] for gap in data(found)["gaps"][0]] == [1, 0]
