"""The share of a term's weight over the epochs: closed forms, corners, and every refusal."""

import math
import re
from itertools import pairwise

import pytest

from kdprobe.errors import InputError
from kdprobe.expression import Call, parse_call, parse_loss
from kdprobe.train.schedules import SCHEDULES, schedule_faults, share_of


def share(text: str, passed: float, total: float = 240) -> float:
    return share_of(parse_call(text), passed, total)


@pytest.mark.parametrize(
    ("text", "passed", "wanted"),
    [
        ("warmup", 0, 0),
        ("warmup", 5, 0.25),
        ("warmup", 20, 1),
        ("warmup", 200, 1),
        ("warmup(epochs=0.5)", 0.25, 0.5),
        ("until(epoch=20)", 0, 1),
        ("until(epoch=20)", 19.999, 1),
        ("until(epoch=20)", 20, 0),
        ("after(epoch=20)", 19.999, 0),
        ("after(epoch=20)", 20, 1),
        ("after(epoch=20)", 240, 1),
        ("ramp", 0, 1),
        ("ramp", 60, 0.75),
        ("ramp", 240, 0),
        ("ramp(start=0.5, end=2)", 120, 1.25),
        ("ramp(over=0.75)", 90, 0.5),
        ("ramp(over=0.75)", 180, 0),
        ("ramp(end=0.25, over=0.5)", 200, 0.25),
        ("sigmoid", 0, math.exp(-5)),
        ("sigmoid", 40, math.exp(-1.25)),
        ("sigmoid", 80, 1),
        ("sigmoid(epochs=10)", 11, 1),
    ],
)
def test_shares_are_those_of_the_closed_forms(text, passed, wanted):
    assert share(text, passed) == pytest.approx(wanted, abs=1e-12)
    assert not list(schedule_faults(parse_call(text)))


def test_a_term_without_a_schedule_has_its_whole_weight():
    (term,) = parse_loss("0.9*kd(T=4)")
    assert share_of(term.schedule, 3.5, 10) == 1


def test_until_and_after_part_the_training():
    (one, two) = parse_loss("kd@until(epoch=3) + cross_entropy@after(epoch=3)")
    for passed in (0, 1.5, 2.99, 3, 3.01, 9):
        assert share_of(one.schedule, passed, 10) + share_of(two.schedule, passed, 10) == 1


def test_both_weights_of_boundary_supporting_samples_are_ramps():
    """A(e) = 1 + max(3 (1 - e/E), 0) and B(e) = max(2 (1 - 4e / (3E)), 0), as bss.py tells."""
    for E in (80, 200):
        for e in range(E + 1):
            A, B = 1 + max(3 * (1 - e / E), 0), max(2 * (1 - 4 * e / (3 * E)), 0)
            assert 4 * share("ramp(end=0.25)", e, E) == pytest.approx(A, abs=1e-12)
            assert 2 * share("ramp(over=0.75)", e, E) == pytest.approx(B, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "untill(epoch=3)",
            r"position 1: found schedule 'untill'; wanted after, ramp, .*mean 'until'",
        ),
        ("until", r"schedule 'until' without knob 'epoch'; wanted it, such as until\(epoch=20\)"),
        ("until(epochs=3)", r"with knob 'epochs'; wanted epoch; did you mean 'epoch'"),
        ("warmup(epochs=0)", r"'warmup': found epochs=0; wanted a number above 0"),
        ("until(epoch=0)", r"found epoch=0; wanted a number above 0"),
        ("after(epoch=-1)", r"found epoch=-1; wanted a number above 0"),
        ("sigmoid(epochs='ten')", r"found epochs='ten'; wanted a number above 0"),
        ("warmup(epochs=true)", r"found epochs=True; wanted a number above 0"),
        ("ramp(start=-1)", r"found start=-1; wanted a number from 0"),
        ("ramp(over=1.5)", r"found over=1.5; wanted a share of the training, at most 1"),
        ("ramp(over=0)", r"found over=0; wanted a number above 0"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_told(text, told):
    found = list(schedule_faults(parse_call(text)))
    assert re.search(told, found[0]), found


def test_all_faults_of_the_knobs_are_told_at_once():
    assert len(list(schedule_faults(parse_call("until(epochs=3, length=2)")))) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(InputError, match=r"found epochs=(nan|inf); wanted a number above 0"):
        share_of(Call("warmup", (("epochs", value),), 1), 0, 10)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_a_share_is_never_below_zero_nor_above_its_ends(name):
    text = f"{name}(epoch=3)" if name in ("until", "after") else name
    found = [share(text, e / 4, 100) for e in range(401)]
    assert min(found) >= 0
    assert max(found) <= 1
    rising = [b - a for a, b in pairwise(found)]
    assert all(step >= 0 for step in rising) or all(step <= 0 for step in rising)
