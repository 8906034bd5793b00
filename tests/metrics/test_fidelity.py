"""Agreement counted by hand, Kullback-Leibler against torch."""

import numpy as np
import pytest
import torch
from stage import FAMILY, ask, made_up, scope
from torch.nn.functional import kl_div

from kdprobe.errors import NotApplicable
from kdprobe.metrics.fidelity import divergence

LABELS = np.array([0, 0, 1, 1])
ANSWERS = {"teacher": [0, 1, 1, 0], "baseline0": [0, 0, 1, 1], "kd0": [0, 1, 1, 1]}


def seen(sight):
    answers = ANSWERS[sight.subjects[0].run]
    return {"logits": 2.0 * np.eye(2)[answers], "labels": LABELS}


def test_divergence_is_that_of_torch():
    teacher, student = np.random.default_rng(0).normal(size=(2, 30, 7)) * 4
    ours, theirs = (torch.from_numpy(z).log_softmax(1) for z in (student, teacher))
    wanted = kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    np.testing.assert_allclose(divergence(teacher, student), wanted.numpy(), atol=1e-12)


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
    (table,) = result.panels()
    assert table.rows[1][4:8] == (100, 0, 50, 35.36)
    assert len(table.columns) == len(table.rows[1])


def test_a_teacher_without_errors_gives_no_wrong_answers():
    study = made_up(FAMILY)
    right = {"logits": np.eye(2)[LABELS], "labels": LABELS}
    result = ask("fidelity", study, scope(study), lambda _: right)
    assert all(run.agreement_when_teacher_wrong is None for run in result.runs)
    wrong = {"logits": np.eye(2)[1 - LABELS], "labels": LABELS}
    result = ask("fidelity", study, scope(study), lambda _: wrong)
    assert all(run.agreement_when_teacher_right is None for run in result.runs)
    assert all(run.agreement_when_teacher_right_error is None for run in result.runs)
    (table,) = result.panels()
    assert table.rows[0][4:6] == (None, None)


def test_of_one_image_the_error_is_not_known():
    study = made_up(FAMILY)
    one = {"logits": np.eye(2)[:1], "labels": LABELS[:1]}
    assert ask("fidelity", study, scope(study), lambda _: one).runs[0].kl_error == 0


def test_a_teacher_and_someone_beside_it_are_needed():
    for family, reason in ((FAMILY[:1], "only a teacher"), (FAMILY[1:], "needs a teacher")):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("fidelity", study, scope(study), seen)
