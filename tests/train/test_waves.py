"""Who trains after whom: the teacher, then the arms of each seed, those that need others last."""

from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import load_recipe

STUDENT = "role='student', model={name='resnet8'}"


def named_waves(*overrides):
    recipe = load_recipe("tiny", ["seeds=[0, 1]", *overrides])
    return [(cohort.name, [run.arm for run in cohort.runs]) for cohort in cohorts(recipe)]


def test_arms_that_need_others_come_after_them():
    assistant = f"arms.a={{{STUDENT}, loss='kd', teacher={{run='b'}}}}"
    between = f"arms.b={{{STUDENT}, loss='kd', teacher={{run='kd'}}}}"
    begun = f"arms.c={{{STUDENT}, loss='kd', start={{run='baseline', epoch=1}}}}"
    first = ["baseline", "kd", "feature"]
    assert named_waves(assistant, between, begun) == [
        ("teacher", ["teacher"]),
        *[
            cohort
            for seed in (0, 1)
            for cohort in (
                (f"seed{seed}", first),
                (f"seed{seed}-2", ["b", "c"]),
                (f"seed{seed}-3", ["a"]),
            )
        ],
    ]


def test_an_arm_that_begins_with_the_teacher_waits_for_no_arm():
    begun = f"arms.c={{{STUDENT}, loss='kd', start={{}}}}"
    assert named_waves(begun)[1] == ("seed0", ["baseline", "kd", "feature", "c"])
    assert len(named_waves(begun)) == 3


def test_networks_trained_together_have_a_folder_each():
    pair = "arms.pair={role='control', model={name='resnet8'}, loss='dml', together=3}"
    run = cohorts(load_recipe("tiny", [pair]))[1].runs[-1]
    assert run.members == ("pair-seed0", "pair-seed0.1", "pair-seed0.2")
