"""Agreement and copied errors counted by hand, Kullback-Leibler against torch."""

import numpy as np
import pytest
import torch
from stage import FAMILY, ask, made_up, scope
from torch.nn.functional import kl_div

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.fidelity import chance_of_copying, chance_where_wrong, divergence

LABELS = np.array([0, 0, 1, 1])
ANSWERS = {"teacher": [0, 1, 1, 0], "baseline0": [0, 0, 1, 1], "kd0": [0, 1, 1, 1]}


def seen(sight):
    answers = ANSWERS[sight.subjects[0].run]
    return {"logits": 2.0 * np.eye(2)[answers], "labels": LABELS}


def panel(result, name):
    return next(one for one in result.panels() if getattr(one, "name", "") == name)


def test_divergence_is_that_of_torch():
    teacher, student = np.random.default_rng(0).normal(size=(2, 30, 7)) * 4
    for t in (1.0, 4.0):
        ours, theirs = (torch.from_numpy(z / t).log_softmax(1) for z in (student, teacher))
        wanted = kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        np.testing.assert_allclose(divergence(teacher, student, t), wanted.numpy(), atol=1e-12)
    np.testing.assert_allclose(divergence(teacher, student), divergence(teacher, student, 1.0))


def test_divergence_is_zero_at_the_teacher_and_positive_elsewhere():
    teacher, student = np.random.default_rng(1).normal(size=(2, 500, 4))
    np.testing.assert_allclose(divergence(teacher, teacher), 0)
    np.testing.assert_allclose(divergence(teacher, teacher + 3), 0, atol=1e-12)
    assert divergence(teacher, student).min() > 0


def test_agreement_is_told_apart_where_the_teacher_errs():
    study = made_up(FAMILY)
    result = ask("fidelity", study, scope(study), seen)
    base, kd = result.runs
    assert (base.agreement, kd.agreement) == (0.5, 0.75)
    assert (base.agreement_when_teacher_right, base.agreement_when_teacher_wrong) == (1, 0)
    assert (kd.agreement_when_teacher_right, kd.agreement_when_teacher_wrong) == (1, 0.5)
    p = np.exp(2) / (np.exp(2) + 1)
    apart = 2 * (2 * p - 1)  # KL of two mirrored answers: p log p/q + q log q/p
    assert kd.kl == pytest.approx(apart / 4)
    values = np.array([0, 0, 0, apart])
    assert kd.kl_error == pytest.approx(values.std(ddof=1) / 2)
    assert kd.agreement_error == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert (kd.agreement_when_teacher_right_error, base.agreement_when_teacher_wrong_error) == (
        0,
        0,
    )
    assert kd.agreement_when_teacher_wrong_error == pytest.approx(np.sqrt(0.25 / 2)), "two images"
    table = panel(result, "fidelity")
    assert table.rows[1][4:8] == (100, 0, 50, 35.36)
    figure = next(one for one in result.panels() if one.title == "Error transfer")
    assert figure.rows == ("baseline", "kd")
    assert [row[:3] + row[4:] for row in figure.values] == [(0, 0, 100, 0), (50, 0, 50, 0)]
    assert [row[3] for row in figure.values] == [
        pytest.approx(100 * run.chance_when_wrong, abs=0.01) for run in (base, kd)
    ]
    assert len(table.columns) == len(table.rows[1]) == len(set(table.columns))
    soft = np.exp(0.5) / (np.exp(0.5) + 1)
    assert kd.kl_at == pytest.approx([apart / 4, 0.5 * (2 * soft - 1) / 4])
    assert table.rows[1][10] == pytest.approx(kd.kl_at[1], abs=1e-4)


def test_a_teacher_without_errors_gives_no_wrong_answers():
    study = made_up(FAMILY)
    right = {"logits": np.eye(2)[LABELS], "labels": LABELS}
    result = ask("fidelity", study, scope(study), lambda _: right)
    assert all(run.agreement_when_teacher_wrong is None for run in result.runs)
    assert all(run.chance is run.beyond_chance is None for run in result.runs)
    assert "agreement_when_teacher_wrong" not in result.effects
    assert not result.findings()
    wrong = {"logits": np.eye(2)[1 - LABELS], "labels": LABELS}
    result = ask("fidelity", study, scope(study), lambda _: wrong)
    assert all(run.agreement_when_teacher_right is None for run in result.runs)
    assert all(run.agreement_when_teacher_right_error is None for run in result.runs)
    assert panel(result, "fidelity").rows[0][4:6] == (None, None)
    assert result.runs[0].chance == 1, "all other images of the class get that answer"


def test_of_one_image_the_error_is_not_known():
    study = made_up(FAMILY)
    one = {"logits": np.eye(2)[:1], "labels": LABELS[:1]}
    assert np.isnan(ask("fidelity", study, scope(study), lambda _: one).runs[0].kl_error)


def test_a_teacher_and_someone_beside_it_are_needed():
    for family, reason in ((FAMILY[:1], "only a teacher"), (FAMILY[1:], "needs a teacher")):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("fidelity", study, scope(study), seen)


def drawn(name, count=400, classes=5):
    """A teacher right on 3 of 4 images; kd copies it on half of them, the baseline never."""
    chance = np.random.default_rng(1)
    labels = chance.integers(classes, size=count)
    free = {who: chance.integers(classes, size=count) for who in ("teacher", "other")}
    teacher = np.where(chance.random(count) < 0.75, labels, free["teacher"])
    other = np.where(chance.random(count) < 0.6, labels, free["other"])
    kd = np.where(chance.random(count) < 0.5, teacher, other)
    return {"teacher": teacher, "baseline0": other, "kd0": kd}[name], labels


def shown(sight):
    answers, labels = drawn(sight.subjects[0].run)
    return {"logits": 4.0 * np.eye(5)[answers], "labels": labels}


def test_chance_is_counted_over_the_other_images():
    theirs, labels = drawn("teacher", 60)
    ours, _ = drawn("kd0", 60)
    free, tied = (f(theirs, ours, labels, 5) for f in (chance_of_copying, chance_where_wrong))
    for i in range(60):
        others = (labels == labels[i]) & (np.arange(60) != i)
        assert free[i] == pytest.approx((ours[others] == theirs[i]).mean())
        if theirs[i] != labels[i]:
            errors = others & (ours != labels)
            wanted = ((ours[errors] == theirs[i]).sum() + 0.25) / (errors.sum() + 1)
            assert tied[i] == pytest.approx(wanted * (ours[i] != labels[i]))


def test_of_two_classes_two_wrong_answers_are_the_same():
    theirs, ours, labels = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 1]), np.array([0, 0, 1, 1])
    np.testing.assert_allclose(chance_where_wrong(theirs, ours, labels, 2), [1, 0, 1, 0])
    assert np.isnan(chance_of_copying(theirs[:1], ours[:1], labels[:1], 2))


def test_networks_that_err_apart_copy_as_often_as_by_chance():
    chance = np.random.default_rng(0)
    labels = chance.integers(5, size=20_000)
    theirs, ours = (
        np.where(chance.random(20_000) < 0.7, labels, chance.integers(5, size=20_000))
        for _ in range(2)
    )
    wrong = theirs != labels
    copied = (ours == theirs)[wrong].mean()
    for expected in (chance_of_copying, chance_where_wrong):
        found = expected(theirs, ours, labels, 5)[wrong].mean()
        assert found == pytest.approx(copied, abs=0.006)


def test_a_student_that_copies_errors_is_told_of_and_nobody_else():
    study = made_up(FAMILY)
    result = ask("fidelity", study, scope(study), shown)
    (finding,) = result.findings()
    copied = result.effects["agreement_when_teacher_wrong"]["kd"]
    base, kd = result.runs
    assert copied.effect == pytest.approx(
        kd.agreement_when_teacher_wrong - base.agreement_when_teacher_wrong
    )
    assert copied.low > 0
    assert finding.startswith(f"kd gives {100 * kd.agreement_when_teacher_wrong:.0f}% of the")
    assert f"{100 * copied.effect:.0f} points more than the baseline" in finding
    assert kd.beyond_chance > 4 * kd.beyond_chance_error
    assert abs(base.beyond_chance) < 3 * base.beyond_chance_error
    answers, labels = drawn("teacher")
    same = {"logits": np.eye(5)[answers], "labels": labels}
    alike = ask("fidelity", study, scope(study), lambda _: same)
    assert alike.effects["agreement_when_teacher_wrong"]["kd"].effect == 0
    assert not alike.findings()


def errors(count, agreeing):
    """A teacher wrong on `count` of 200 images; kd gives `agreeing` of these answers."""
    labels = np.zeros(200, int)
    teacher = np.where(np.arange(200) < count, 1, 0)
    kd = np.where(np.arange(200) < agreeing, 1, 0)
    answers = {"teacher": teacher, "baseline0": labels, "kd0": kd}
    return lambda s: {"logits": 4.0 * np.eye(5)[answers[s.subjects[0].run]], "labels": labels}


def test_of_few_errors_nothing_is_told_first():
    study = made_up(FAMILY)
    few = ask("fidelity", study, scope(study), errors(29, 26))
    assert few.effects["agreement_when_teacher_wrong"]["kd"].low > 0.5, "it is shown all the same"
    assert not few.findings()
    (told,) = ask("fidelity", study, scope(study), errors(30, 27)).findings()
    assert told.startswith("kd gives 90% of the teacher's wrong answers too, 90 points more")
    assert told.endswith("; 30 images)")


def test_intervals_of_shares_end_at_all_images_and_none_has_no_width():
    study = made_up(FAMILY)
    result = ask("fidelity", study, scope(study), errors(30, 29))
    copied = result.effects["agreement_when_teacher_wrong"]["kd"]
    assert copied.high == 1.0
    assert copied.low < copied.effect < 1
    assert all(e.high is None or e.high <= 100 for e in result.panels()[0].effects)
    alike = ask("fidelity", study, scope(study), errors(30, 30))
    copied = alike.effects["agreement_when_teacher_wrong"]["kd"]
    assert copied.effect == 1
    assert np.isnan([copied.low, copied.high]).all()
    assert not alike.findings(), "one seed on which all images agree has no error bar"
    shown = alike.panels()[0].effects
    assert [(e.low, e.high) for e in shown if e.name == "kd, copied errors"] == [(None, None)]


def test_no_measure_of_answers_depends_on_order_or_scale():
    study = made_up(FAMILY)
    order = np.random.default_rng(5).permutation(400)
    plain, other, sharp = (
        ask("fidelity", study, scope(study), look)
        for look in (
            shown,
            lambda s: {name: values[order] for name, values in shown(s).items()},
            lambda s: shown(s) | {"logits": 7 * shown(s)["logits"]},
        )
    )
    for one, two, three in zip(plain.runs, other.runs, sharp.runs, strict=True):
        assert one.kl == pytest.approx(two.kl)
        for name in ("agreement", "agreement_when_teacher_wrong", "chance", "beyond_chance"):
            assert getattr(one, name) == pytest.approx(getattr(two, name))
            assert getattr(one, name) == getattr(three, name)


def test_without_a_partner_there_is_no_difference_and_it_is_said():
    study = made_up([*FAMILY[:2], ("kd", "student", 7)])
    result = ask("fidelity", study, scope(study), lambda s: shown_as(s, "kd7", "kd0"))
    assert result.effects == {}
    assert [one.kind for one in result.panels()] == ["heatmap", "table", "table"]
    assert "No baseline shares a seed" in panel(result, "fidelity").how_to_read


def shown_as(sight, name, as_name):
    run = sight.subjects[0].run
    answers, labels = drawn(as_name if run == name else run)
    return {"logits": 4.0 * np.eye(5)[answers], "labels": labels}


def test_temperatures_are_above_zero():
    study = made_up(FAMILY)
    with pytest.raises(UsageError, match=r"fidelity\.temperatures holds 0; wanted numbers above 0"):
        ask("fidelity", study, scope(study), shown, temperatures=(1.0, 0.0))


def test_a_teacher_or_all_learners_of_nan_leave_nothing():
    study = made_up(FAMILY)
    for spoilt in (("teacher",), ("baseline0", "kd0")):

        def look(sight, spoilt=spoilt):
            found = shown(sight)
            if sight.subjects[0].run in spoilt:
                found["logits"] = found["logits"] * np.nan
            return found

        with pytest.raises(Refused, match=f"run '{spoilt[0]}' puts out NaN"):
            ask("fidelity", study, scope(study), look)
