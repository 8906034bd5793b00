"""Loss expressions are read, never executed, and a fault names its position."""

import pytest

from kdprobe.expression import ExpressionError, parse_loss


def test_weights_names_and_knobs():
    first, second = parse_loss("0.1*cross_entropy + .9 * kd(T=4, soft=true)")
    assert (first.weight, first.name, first.knobs) == (0.1, "cross_entropy", ())
    assert (second.weight, second.name) == (0.9, "kd")
    assert second.knobs == (("T", 4), ("soft", True))


def test_a_lone_name_weighs_one_and_a_label_leaves_the_weight_out():
    (term,) = parse_loss("feature(layer=\"stage3\", gain=-1e-2, on=false, it='a')")
    assert term.weight == 1.0
    assert term.label == "feature(layer='stage3', gain=-0.01, on=false, it='a')"
    assert parse_loss(term.label)[0].knobs == term.knobs
    assert parse_loss("kd()")[0].label == "kd"


@pytest.mark.parametrize(
    ("text", "position", "found", "wanted"),
    [
        ("", 1, "the end", "a weight or the name"),
        ("0.1*", 5, "the end", "a name"),
        ("0.1 kd", 5, "'kd'", "'*'"),
        ("kd - ce", 4, "'-'", "'+'"),
        ("kd +", 5, "the end", "a weight or the name"),
        ("kd(T)", 5, "')'", "'='"),
        ("kd(T=4", 7, "the end", "',' or ')'"),
        ("kd(T=)", 6, "')'", "a number"),
        ("kd(T=4, T=5)", 9, "'T'", "each knob once"),
        ("kd(4)", 4, "'4'", "a name"),
        ("-1*kd", 1, "'-'", "a weight or the name"),
        ("kd; import os", 3, "';'", "'+'"),
        ("kd(T=__import__('os'))", 6, "'__import__'", "a number"),
        ("kd(T=4) + 0.5*kd(T=4)", 15, "'kd(T=4)' a second time", "it once"),
    ],
)
def test_faults_name_position_found_and_wanted(text, position, found, wanted):
    with pytest.raises(ExpressionError) as fault:
        parse_loss(text)
    assert str(fault.value).startswith(f"position {position}: found {found}")
    assert f"wanted {wanted}" in str(fault.value)
