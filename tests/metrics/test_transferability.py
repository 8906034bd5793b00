"""The share of images that fool the student with its teacher, on planted answers."""

import json

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.attacked import FEWEST
from kdprobe.metrics.contract import as_values
from kdprobe.metrics.transferability import share_of
from kdprobe.panels import Forest, Table

N = 40


def planted(sight, fooled=N):
    """Right on all but the first, 30 and 36; fooled on as many as said, a quarter and a half."""
    place = np.arange(N)
    runs = [subject.run for subject in sight.subjects]
    assert runs == ["teacher", "baseline0", "kd0"]
    right = np.stack([place > 0, place < 30, place < 36]).astype(float)
    attacked = np.stack([place >= fooled, place % 4 > 0, place % 2 > 0]).astype(float)
    noisy = np.stack([place >= 0, place % 10 > 0, place >= 0]).astype(float)
    return {"right": right, "attacked": attacked, "noisy": noisy}


def test_the_share_is_of_images_that_both_name_right_and_that_fool_the_teacher():
    study = made_up(FAMILY)
    found = ask("transferability", study, scope(study), planted)
    base, kd = found.runs
    assert (found.images, found.teacher_right, found.teacher_fooled) == (N, N - 1, N - 1)
    assert (base.images, kd.images) == (29, 35)
    assert (base.right, kd.right) == (0.75, 0.9)
    assert base.transfer.value == pytest.approx(7 / 29)
    assert kd.transfer.value == pytest.approx(17 / 35)
    assert kd.transfer.error == pytest.approx((17 * 18 / 35**3) ** 0.5)
    assert base.noise.value == pytest.approx(2 / 29)
    assert kd.noise.value == 0
    assert not found.findings()
    some = ask("transferability", study, scope(study), lambda s: planted(s, fooled=20))
    assert [run.images for run in some.runs] == [19, 19]


def test_the_effect_is_over_images_that_count_for_both():
    study = made_up(FAMILY)
    found = ask("transferability", study, scope(study), planted)
    effect = found.effects["kd"]
    assert effect.images == 29
    assert effect.effect == pytest.approx(14 / 29 - 7 / 29)
    forest, table = found.panels()
    assert isinstance(forest, Forest)
    assert isinstance(table, Table)
    assert table.rows[1] == ("kd0", "student", 35, 48.57, 8.45, 0.0, 0.0)
    json.dumps(as_values(found), allow_nan=False)


def test_a_teacher_that_is_hardly_fooled_leaves_nothing_to_tell():
    study = made_up(FAMILY)
    found = ask("transferability", study, scope(study), lambda s: planted(s, fooled=3))
    assert all(run.transfer.value is None for run in found.runs)
    assert not found.effects
    (told,) = found.findings()
    assert "fools teacher on 2 of the 39 images that it names right; 2 of 2 networks" in told
    assert f"(fewest baseline0: 2, wanted {FEWEST})" in told
    (table,) = found.panels()
    assert table.rows[0][3:] == (None, None, None, None)


def test_networks_that_name_too_few_right_are_told_of_once():
    study = made_up(FAMILY)

    def poor(sight, most):
        found = planted(sight)
        found["right"][2, 6:] = 0
        found["right"][1, most:] = 0
        return found

    for most, few in ((30, 1), (8, 2)):
        (told,) = ask(
            "transferability", study, scope(study), lambda s, most=most: poor(s, most)
        ).findings()
        assert f"{few} of 2 networks name too few" in told
        assert f"(fewest kd0: 5, wanted {FEWEST})" in told


def test_a_share_of_too_few_is_not_told():
    assert share_of(np.ones(FEWEST - 1, dtype=bool)).value is None
    found = share_of(np.arange(FEWEST) < 2)
    assert found.value == pytest.approx(2 / FEWEST)


def test_what_cannot_be_asked_is_refused():
    study = made_up(FAMILY)
    for name in ("eps", "step"):
        with pytest.raises(UsageError, match=rf"transferability\.{name} is 0; wanted above 0"):
            ask("transferability", study, scope(study), planted, **{name: 0.0})
    with pytest.raises(NotApplicable, match="needs a teacher"):
        ask("transferability", made_up(FAMILY[1:]), scope(study), planted)
    with pytest.raises(NotApplicable, match="only a teacher"):
        ask("transferability", made_up(FAMILY[:1]), scope(study), planted)
