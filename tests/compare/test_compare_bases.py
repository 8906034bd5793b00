"""What the page holds for every baseline: effects on their axes, reasons, changed verdicts."""

import pytest
from comparable import results

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.record import Comparison
from kdprobe.report.comparison_bases import data, none_decided, what_changed
from kdprobe.report.comparison_effects import MARGIN, axes, marks


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """`few` decides nothing, and is judged otherwise than the others."""
    return compare([results("a"), results("few", seeds=2), results("b", chance=1)])


def test_effects_stand_on_a_line_as_their_numbers_do(comparison):
    axis = axes(comparison)["accuracy"]
    shown = [(d, mark) for d, mark in marks(comparison) if d.quantity == "accuracy"]
    numbers = [0.0] + [n for d, _ in shown for n in (d.low, d.effect, d.high) if n is not None]
    low, high = min(numbers), max(numbers)
    assert (axis.least[0], axis.greatest[0]) == (MARGIN, 100 - MARGIN)
    for d, mark in shown:
        for number, place in ((d.low, mark.low), (d.effect, mark.effect), (d.high, mark.high)):
            if number is None:
                assert place is None
                continue
            share = (place - axis.zero) / (100 - 2 * MARGIN)
            assert share == pytest.approx(number / (high - low), abs=0.002)


def test_an_end_that_would_lie_on_zero_is_not_written():
    alike = compare([results("a"), results("b")])
    assert {(axis.zero, axis.least[1]) for axis in axes(alike).values()} == {(50.0, "")}
    up = compare([results("a"), results("b", gains={"kd": 0.5, "feature": 0.5})])
    axis = axes(up)["accuracy"]
    assert axis.least[1] == ""
    assert axis.greatest[1].startswith("+0.")


def test_only_leading_quantities_are_drawn(comparison):
    leading = {entry.name for entry in comparison.quantities if entry.leading}
    assert set(axes(comparison)) == leading
    assert {d.quantity for d, _ in marks(comparison)} == leading


def test_why_nothing_is_decided_depends_on_the_baseline(comparison):
    assert none_decided(comparison) == "No difference is decided."
    few = comparison.against("few")
    assert "fewer than three seeds" in none_decided(few)
    alone = comparison.model_copy(update={"differences": ()})
    assert "no number where another side has one" in none_decided(alone)
    assert [note[0] for note in data(comparison)["notes"].values()] == [
        none_decided(comparison.against(name)) for name in ("a", "few", "b")
    ]


def test_changed_verdicts_are_told_for_every_baseline():
    by_arm = compare([results()])
    assert what_changed(by_arm).startswith("The baseline itself is not judged")
    held = data(by_arm)
    assert held["changed"][held["baseline"]] == []
    kd = held["sides"].index("kd")
    assert [by_arm.verdicts[row].at["layer"] for row in held["changed"][kd]] == ["logits"]
    assert what_changed(by_arm.against("kd")).startswith("Marked: 1 row in which")
    alike = compare([results("a"), results("b")])
    assert what_changed(alike) == "No side is judged otherwise than the baseline."
