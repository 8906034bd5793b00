"""Which epochs are kept: dense early, around each drop, and at the end."""

import pytest

from kdprobe.train.keeping import kept_epochs
from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import load_recipe
from kdprobe.train.settings import Optimizer


def how(epochs, **knobs):
    return Optimizer(lr=0.1, batch_size=1, epochs=epochs, **knobs)


def test_the_schedule_of_240_epochs_with_three_drops():
    kept = kept_epochs("auto", 240, how(240, schedule="steps", milestones=(150, 180, 210)))
    early = range(11)
    twentieths = range(12, 240, 12)
    drops = (149, 150, 151, 179, 180, 181, 209, 210, 211)
    assert kept == tuple(sorted({*early, *twentieths, *drops, 238, 239, 240}))


def test_drops_count_from_where_the_schedule_of_a_stage_begins():
    plan = how(240, schedule="steps", milestones=(150, 180))
    kept = kept_epochs("auto", 240, plan, begins=(0, 20))
    assert {19, 20, 21, 149, 150, 151, 169, 170, 171, 199, 200, 201} <= set(kept)
    (pair,) = (one for one in cohorts(load_recipe("nine-methods-full")) if one.seed == 0)
    assert {19, 20, 21, 79, 80, 81} <= set(pair.checkpoints)


def test_milestones_of_another_schedule_are_no_drops():
    assert 149 not in kept_epochs("auto", 240, how(240, milestones=(150,)))


@pytest.mark.parametrize("epochs", [1, 2, 5, 13, 19, 20, 21, 39, 40, 100, 241])
@pytest.mark.parametrize("drop", [1, 7, 10_000])
def test_it_rises_from_the_start_to_the_last_within_the_training(epochs, drop):
    kept = kept_epochs("auto", epochs, how(epochs, schedule="steps", milestones=(drop,)))
    assert kept == tuple(sorted(set(kept)))
    assert (kept[0], kept[-1]) == (0, epochs)
    assert {min(epochs, epoch) for epoch in range(11)} <= set(kept)
    assert {epoch for epoch in (epochs - 2, epochs - 1) if epoch > 0} <= set(kept)
    assert len(kept) <= 11 + 39 + 3 + 3
    if drop <= epochs:
        assert {drop - 1, drop, min(drop + 1, epochs)} <= set(kept)


def test_short_trainings_are_kept_whole():
    assert kept_epochs("auto", 12, how(12)) == tuple(range(13))


@pytest.mark.parametrize("asked", [None, "all"])
def test_all_is_the_default(asked):
    assert kept_epochs(asked, 4, how(4)) == (0, 1, 2, 3, 4)


def test_a_list_is_taken_as_it_is():
    assert kept_epochs((0, 3), 3, how(3)) == (0, 3)


def test_arms_and_teacher_keep_by_the_word_of_a_recipe():
    found = cohorts(load_recipe("tiny", ["optimizer.epochs=60", "checkpoints=auto"]))
    wanted = tuple(sorted({*range(11), *range(0, 60, 3), 58, 59, 60}))
    assert [cohort.checkpoints for cohort in found] == [wanted] * 3


def test_a_teacher_of_other_length_keeps_by_its_own():
    overrides = ["optimizer.epochs=30", "checkpoints=auto", "teacher.epochs=60"]
    teacher, *students = cohorts(load_recipe("tiny", overrides))
    assert teacher.checkpoints[-3:] == (58, 59, 60)
    assert students[0].checkpoints == tuple(range(31))
