"""Who is compared with whom: equal seeds, one reference arm, and nobody by guessing."""

from dataclasses import dataclass

import pytest

from kdprobe.pairing import arms_of, pairs_by_arm


@dataclass(frozen=True)
class Run:
    role: str
    arm: str
    seed: int | None


B0, B1 = Run("baseline", "b", 0), Run("baseline", "b", 1)
K0, K1, K2 = (Run("student", "kd", seed) for seed in (0, 1, 2))


def test_students_meet_the_baseline_of_their_seed_whatever_the_order():
    assert pairs_by_arm([K1, B0, Run("teacher", "t", 0), K0, K2, B1]) == {
        "kd": [(K1, B1), (K0, B0)]
    }


def test_the_first_arm_of_baselines_is_the_reference():
    other = Run("baseline", "smoothed", 0)
    assert pairs_by_arm([B0, other, K0]) == {"kd": [(K0, B0)]}
    assert pairs_by_arm([other, B0, K0]) == {"kd": [(K0, other)]}


def test_runs_without_a_seed_are_matched_only_where_there_is_no_choice():
    base, one, two = (
        Run("baseline", "b", None),
        Run("student", "kd", None),
        Run("student", "at", None),
    )
    assert pairs_by_arm([base, one]) == {"kd": [(one, base)]}
    assert pairs_by_arm([base, one, two]) == {"kd": [(one, base)], "at": [(two, base)]}
    assert pairs_by_arm([base, one, Run("student", "kd", None)]) == {}
    assert pairs_by_arm([B0, one]) == {}


@pytest.mark.parametrize("runs", [[], [B0], [K0], [B1, K0]])
def test_without_partners_nobody_is_compared(runs):
    assert pairs_by_arm(runs) == {}


def test_students_meet_the_runs_of_any_arm_by_seed():
    smooth = [Run("control", "smooth", seed) for seed in (2, 0)]
    known = [B0, B1, K0, K1, K2, *smooth]
    assert pairs_by_arm(known, smooth) == {"kd": [(K0, smooth[1]), (K2, smooth[0])]}
    assert pairs_by_arm(known) == {"kd": [(K0, B0), (K1, B1)]}, "a control is no baseline"
    assert pairs_by_arm(known, []) == {}


def test_arms_are_those_of_a_role_in_order():
    controls = [Run("control", "smooth", 0), Run("control", "random", 0)]
    assert arms_of([*controls, B0, K0], "control") == {
        "smooth": controls[:1],
        "random": controls[1:],
    }
    assert arms_of([B0], "control") == {}
