"""MagSim and AngSim of planted attacks: which are counted, their means, errors and pages."""

import json

import numpy as np
import pytest
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.metrics.attacked import FEWEST, of_images, over_attacks, ratio
from kdprobe.metrics.boundary import Attacked
from kdprobe.metrics.contract import METRICS, as_values
from kdprobe.panels import Forest, Table

SEEDS = (0, 1, 2)
SEVERAL = [("teacher", "teacher", None)]
SEVERAL += [("baseline", "baseline", s) for s in SEEDS] + [("kd", "student", s) for s in SEEDS]
N, T = 6, 3


def planted(sight, angle=lambda run: 0.2, rest=0.0, right=1.0, left=1.0):
    """All attacks succeed; the cosine with the teacher's is `angle` of the run."""
    runs = [subject.run for subject in sight.subjects]
    s = len(runs)
    chance = np.random.default_rng(0)
    own = np.array([1.0 if run == "teacher" else angle(run) for run in runs])
    cosines = np.broadcast_to(np.outer(own, own)[..., None, None], (s, s, N, T)).copy()
    cosines += 0.01 * chance.normal(size=(1, 1, N, 1))  # of the image
    norms = np.ones((s, N, T))
    norms[1:] = [[[0.5]]]
    shape = (s, N, T)
    return {
        "right": np.full((s, N), right),
        "left": np.full(shape, left),
        "norms": norms,
        "rest": np.full(shape, rest),
        "cosines": cosines,
        "strange": np.zeros(shape),
    }


def test_the_mean_of_attacks_is_over_those_that_are_kept():
    chance = np.random.default_rng(1)
    values, kept = chance.normal(size=(8, 4)), chance.random((8, 4)) < 0.6
    found = over_attacks(values, kept)
    assert found.value == pytest.approx(values[kept].mean())
    each = of_images(values, kept)
    for i in range(8):
        assert each[i] == pytest.approx(values[i][kept[i]].mean())
    assert np.isnan(of_images(values, kept & False)).all()


def test_the_error_is_over_images_not_over_attacks():
    """Four attacks that say the same are one: the textbook's error of the images' means."""
    means = np.random.default_rng(2).normal(size=10)
    values = np.repeat(means[:, None], 4, axis=1)
    found = over_attacks(values, np.ones((10, 4), dtype=bool))
    assert found.error == pytest.approx(means.std(ddof=1) / 10**0.5)
    one = over_attacks(values[:1].repeat(FEWEST, 1), np.ones((1, 4 * FEWEST), dtype=bool))
    assert (one.value, one.error) == (pytest.approx(means[0]), None)


def test_the_error_covers_the_truth_as_often_as_it_should():
    chance, hits = np.random.default_rng(3), 0
    for _ in range(400):
        kept = chance.random((40, 3)) < 0.7
        values = 0.3 + chance.normal(size=(40, 1)) + 0.5 * chance.normal(size=(40, 3))
        found = over_attacks(values, kept)
        hits += abs(found.value - 0.3) < 1.96 * found.error
    assert hits / 400 == pytest.approx(0.95, abs=0.03)


def test_a_ratio_of_lengths_does_not_mind_the_order_nor_the_unit():
    ours, theirs = np.array([1.0, 4.0, 0.0, 0.0]), np.array([2.0, 1.0, 3.0, 0.0])
    np.testing.assert_allclose(ratio(ours, theirs), [0.5, 0.25, 0, 0])
    np.testing.assert_allclose(ratio(7 * theirs, 7 * ours), ratio(ours, theirs))


def test_students_and_baselines_are_compared_with_the_teacher_and_baselines_with_each_other():
    study = made_up(SEVERAL)
    found = ask("boundary", study, scope(study), planted)
    ways = [(pair.run, pair.against) for pair in found.pairs]
    assert ways[:6] == [(f"{arm}{s}", "teacher") for arm in ("baseline", "kd") for s in SEEDS]
    assert ways[6:] == [
        ("baseline0", "baseline1"),
        ("baseline0", "baseline2"),
        ("baseline1", "baseline2"),
    ]
    first = found.pairs[0]
    assert first.attacks == first.tried == N * T
    assert first.angle.value == pytest.approx(0.2, abs=0.02)
    assert first.size.value == pytest.approx(0.5)
    assert first.strange.value == 0
    assert found.pairs[-1].size.value == 1
    assert found.pairs[-1].angle.value == pytest.approx(0.04, abs=0.02)
    assert found.networks["kd0"].distance == 0.5
    assert not found.findings()


def test_only_attacks_that_take_both_out_of_the_class_that_both_had_given_count():
    def answer(sight):
        seen = planted(sight)
        seen["right"][0, 0] = 0  # the teacher is wrong about the first image
        seen["right"][2, 1] = 0  # the student about the second
        seen["left"][2, 2] = 0  # the student stays with the third
        seen["left"][0, 3, 1:] = 0  # the teacher with the fourth, but for one class
        seen["norms"][2, 4, 0] = 0  # the student was outside from the start
        seen["cosines"][2, 0, 3, 0] = -1.0
        return seen

    study = made_up(FAMILY)
    student = ask("boundary", study, scope(study), answer).pairs[1]
    assert student.run == "kd0"
    assert student.attacks == 0 + 0 + 0 + 1 + 2 + 3
    assert student.angle.value is None, "too few to tell"
    wide = made_up(FAMILY)
    seen = ask(
        "boundary",
        wide,
        scope(wide),
        lambda s: {
            k: np.concatenate([v, v], -1) if k not in ("right",) else v
            for k, v in answer(s).items()
        },
    ).pairs[1]
    assert seen.attacks == 12
    own = planted(_sight(wide))["cosines"][2, 0]
    wanted = (2 * own[5].sum() + 2 * own[4, 1:].sum() + 2 * -1.0) / 12
    assert seen.angle.value == pytest.approx(wanted)


def _sight(study):
    (asked,) = next(METRICS["boundary"].ask(study, scope(study)))
    return asked


def test_the_effect_is_the_students_angle_beyond_the_baselines():
    study = made_up(SEVERAL)
    found = ask(
        "boundary",
        study,
        scope(study),
        lambda s: planted(s, angle=lambda run: 0.5 if run.startswith("kd") else 0.2),
    )
    angle, size = found.effects["kd: AngSim"], found.effects["kd: MagSim"]
    assert angle.effect == pytest.approx(0.3)
    assert size.effect == pytest.approx(0)
    forest, table, ended = found.panels()
    assert isinstance(forest, Forest)
    assert [effect.name for effect in forest.effects] == ["kd: AngSim", "kd: MagSim"]
    assert isinstance(table, Table)
    assert len(table.rows) == 9
    assert len(ended.rows) == 7
    json.dumps(as_values(found), allow_nan=False)


def test_what_the_attacks_cannot_tell_is_said():
    study = made_up(SEVERAL)
    far = ask("boundary", study, scope(study), lambda s: planted(s, rest=0.4), eta=0.3)
    (told,) = far.findings()
    assert "with eta = 0.3 the attacks on 7 of 7 networks end away" in told
    assert "40% of the gap left): lower boundary.eta" in told
    (told,) = ask("boundary", study, scope(study), lambda s: planted(s, rest=0.4)).findings()
    assert told.endswith("raise boundary.steps")
    blind = ask("boundary", study, scope(study), lambda s: planted(s, rest=0.4, right=0.0))
    assert blind.networks["kd0"] == Attacked(0.0, None, None, None)
    assert len(blind.findings()) == 1, "where nothing is named right, no end is told of"
    json.dumps(as_values(blind), allow_nan=False)
    robust = ask("boundary", study, scope(study), lambda s: planted(s, left=0.0))
    assert all(pair.angle.value is None for pair in robust.pairs)
    (told,) = robust.findings()
    assert "9 of 9 pairs of networks cannot be compared: only 0 of 18 attacks" in told
    assert not robust.effects
    assert all(isinstance(panel, Table) for panel in robust.panels())
    json.dumps(as_values(robust), allow_nan=False)


def test_the_study_has_one_remark_of_a_kind_and_it_names_the_worst():
    def answer(sight):
        seen = planted(sight)
        seen["rest"][[2, 4, 5]] = np.array([0.1, 0.7, 0.2])[:, None, None]
        seen["left"][[1, 4]] = 0  # but the teacher and four others leave
        seen["left"][1, :3] = 1
        return seen

    study = made_up(SEVERAL)
    far, few = ask("boundary", study, scope(study), answer).findings()
    assert "on 3 of 7 networks end away from the boundary (half of those on kd0" in far
    assert "70% of the gap left" in far
    assert few.startswith("4 of 9 pairs of networks cannot be compared: only 0 of 18 attacks")
    assert "take both kd0 and teacher out" in few


def test_what_cannot_be_asked_is_refused():
    study = made_up(FAMILY)
    with pytest.raises(UsageError, match=r"boundary\.eta is -1; wanted 0 or more"):
        ask("boundary", study, scope(study), planted, eta=-1.0)
    with pytest.raises(NotApplicable, match="at least 2 classes"):
        ask("boundary", study, scope(study, classes=("a",)), planted)
    with pytest.raises(NotApplicable, match="needs a teacher"):
        ask("boundary", made_up(FAMILY[1:]), scope(study), planted)
    with pytest.raises(NotApplicable, match="only a teacher"):
        ask("boundary", made_up(FAMILY[:1]), scope(study), planted)
