"""Forgetting counted by hand, chance against shuffling, the order of learning against scipy."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from stage import FAMILY, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused
from kdprobe.metrics.contract import as_values
from kdprobe.metrics.forgetting import (
    events,
    events_by_chance,
    learned_at,
    likeness_by_image,
    order_scores,
    right_from_here,
)
from kdprobe.panels import Forest, Lines, Table

# Four checkpoints of five images: never right, always, learned, learned again, lost.
RIGHT = np.array(
    [
        [0, 1, 0, 1, 0],
        [0, 1, 0, 0, 1],
        [0, 1, 1, 0, 1],
        [0, 1, 1, 1, 0],
    ],
    dtype=bool,
)


def test_counted_by_hand():
    np.testing.assert_array_equal(events(RIGHT), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(learned_at(RIGHT), [4, 0, 2, 3, 4])
    np.testing.assert_array_equal(right_from_here(RIGHT)[2], [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(right_from_here(RIGHT)[-1], RIGHT[-1])


def test_events_are_falls_from_right_to_wrong():
    right = np.random.default_rng(0).random((7, 50)) < 0.6
    steps = np.diff(right.astype(int), axis=0)
    np.testing.assert_array_equal(events(right), (steps == -1).sum(0))
    rises = (steps == 1).sum(0)
    np.testing.assert_array_equal(right[0] + rises - events(right), right[-1])


def test_chance_is_the_mean_over_shuffled_images():
    chance = np.random.default_rng(1)
    right = np.sort(chance.random((5, 40)), axis=0) < chance.random(40)
    shuffled = [
        events(np.stack([chance.permutation(row) for row in right])).mean() for _ in range(2000)
    ]
    assert events_by_chance(right) == pytest.approx(np.mean(shuffled), rel=0.02)
    assert events(right).mean() != pytest.approx(np.mean(shuffled), rel=0.2)


def test_the_likeness_of_orders_is_that_of_scipy():
    chance = np.random.default_rng(2)
    one = chance.integers(6, size=200)
    two = np.clip(one + chance.integers(-2, 3, size=200), 0, 5)
    rows = likeness_by_image(order_scores(one), order_scores(two))
    assert rows.mean() == pytest.approx(spearmanr(one, two).statistic)
    slower = 10 * two + 3
    np.testing.assert_allclose(likeness_by_image(order_scores(one), order_scores(slower)), rows)
    assert likeness_by_image(order_scores(one), order_scores(one)).mean() == pytest.approx(1)
    assert likeness_by_image(order_scores(one), order_scores(-one)).mean() == pytest.approx(-1)
    assert order_scores(np.full(9, 3)) is None


@pytest.mark.parametrize("step", [1, 3])
def test_its_error_is_that_of_drawing_images_again(step):
    chance = np.random.default_rng(3)
    one = chance.integers(7, size=300)
    two = np.clip(one + chance.integers(-step, step + 1, size=300), 0, 6)
    rows = likeness_by_image(order_scores(one), order_scores(two))
    drawn = [chance.integers(300, size=300) for _ in range(400)]
    wanted = np.std([spearmanr(one[i], two[i]).statistic for i in drawn])
    assert rows.std(ddof=1) / 300**0.5 == pytest.approx(wanted, rel=0.25)


def test_shuffled_orders_scatter_by_the_null():
    chance = np.random.default_rng(4)
    one, two = chance.integers(3, size=(2, 60))
    found = [
        (order_scores(one) * order_scores(chance.permutation(two))).mean() for _ in range(2000)
    ]
    assert np.std(found) == pytest.approx(1 / np.sqrt(59), rel=0.05), "ties or none"


EPOCHS = (0, 1, 2, 5, 9)


def answers(run, epoch, count=200):
    """Image i is learned once the epoch passes its turn, the turn of kd being the teacher's."""
    turn = {"t": 0, "k": 0, "b": 1}[run[0]]
    late = np.random.default_rng(turn).integers(1, 12, size=count)
    labels = np.arange(count) % 3
    right = (late <= epoch) & (epoch > 0)
    return np.where(right, labels, (labels + 1) % 3), labels


def seen(sight):
    point = sight.subjects[0]
    given, labels = answers(point.run, point.epoch)
    return {"logits": np.eye(3)[given], "labels": labels}


SEEDS = (FAMILY[0], *((arm, role, s) for s in range(3) for arm, role, _ in FAMILY[1:]))
TWO = SEEDS[:5]


def test_the_order_of_the_teacher_is_found():
    study = made_up(SEEDS, EPOCHS)
    result = ask("forgetting", study, scope(study), seen)
    assert result.images == 200
    assert result.runs["kd0"].epochs == [1, 2, 5, 9], "without epoch 0"
    order = {one.kind: one for one in result.order}
    assert list(order) == [
        "baseline with teacher",
        "kd with teacher",
        "baseline with baseline, another run",
        "kd with baseline, same seed",
        "kd with baseline, another run",
        "kd with kd, another run",
    ]
    assert order["kd with teacher"].rho == pytest.approx(1)
    assert abs(order["baseline with teacher"].rho) < 4 * result.order_null
    assert [one.pairs for one in order.values()] == [3, 3, 3, 3, 6, 3]
    assert result.order_null == pytest.approx(1 / np.sqrt(199))
    assert result.nearer["kd"].low > 0.5
    assert result.fewer["kd"].effect == 0
    assert result.runs["kd0"].events == 0
    late = np.random.default_rng(0).integers(1, 12, size=200)
    assert result.runs["kd0"].never_right == pytest.approx((late > 9).mean())
    assert result.runs["kd0"].never_forgotten == pytest.approx((late <= 9).mean())
    first = np.array([1, 2, 5, 9])[np.searchsorted([1, 2, 5, 9], late[late <= 9])]
    assert result.runs["kd0"].learning_epoch == pytest.approx(first.mean())
    np.testing.assert_allclose(
        result.runs["kd0"].settled, [(late <= epoch).mean() for epoch in (1, 2, 5, 9)]
    )


def test_a_student_that_forgets_more_is_seen():
    study = made_up(SEEDS, EPOCHS)

    def look(sight):
        found, point = seen(sight), sight.subjects[0]
        if point.run.startswith("kd") and point.epoch == 5:
            found["logits"] = found["logits"][:, [1, 2, 0]]
        return found

    result = ask("forgetting", study, scope(study), look)
    kd, base = result.runs["kd0"], result.runs["baseline0"]
    assert kd.events > 0.1
    assert result.fewer["kd"].effect == pytest.approx(kd.events - base.events)
    assert result.fewer["kd"].low > 0
    assert kd.never_forgotten < base.never_forgotten
    assert kd.never_right <= base.never_right + 0.2


def test_the_page():
    study = made_up(TWO, EPOCHS)
    result = ask("forgetting", study, scope(study), seen)
    lines, *forests, table, orders = result.panels()
    assert isinstance(lines, Lines)
    assert [series.name for series in lines.series] == ["teacher", "baseline", "kd"]
    assert lines.series[2].x == (1, 2, 5, 9)
    assert [type(one) for one in forests] == [Forest, Forest]
    for panel in (table, orders):
        assert isinstance(panel, Table)
        assert {len(row) for row in panel.rows} == {len(panel.columns)} == {len(set(panel.columns))}
    assert [row[0] for row in table.rows][:2] == ["teacher", "baseline0"]
    assert orders.rows[1][:3] == ("kd with teacher", 2, 1.0)
    assert "0.14 or more" in orders.how_to_read
    json.dumps(as_values(result), allow_nan=False)


@pytest.mark.parametrize("family", [TWO[1:], (TWO[0], TWO[2], TWO[4]), (TWO[1], TWO[2])])
def test_no_teacher_or_no_baseline_leaves_the_rest(family):
    study = made_up(family, EPOCHS)
    result = ask("forgetting", study, scope(study), seen)
    assert len(result.runs) == len(family)
    assert result.panels()
    assert bool(result.nearer) == (len({"teacher", "baseline", "kd"} - {f[0] for f in family}) == 0)


def test_a_teacher_of_one_checkpoint_is_left_out():
    whole = made_up(FAMILY, EPOCHS)
    teacher = whole.runs[0].__class__(whole.runs[0].entry, whole.runs[0].checkpoints[-1:])
    study = whole.__class__(whole.name, whole.folder, whole.data, (teacher, *whole.runs[1:]))
    result = ask("forgetting", study, scope(study), seen)
    assert list(result.runs) == ["baseline0", "kd0"]
    assert not result.nearer


def test_a_network_that_never_answers_otherwise_has_no_order():
    study = made_up(FAMILY, EPOCHS)
    right = {"logits": np.eye(2)[[0, 1, 0]], "labels": np.array([0, 1, 0])}
    result = ask("forgetting", study, scope(study), lambda _: right)
    assert result.order == []
    assert result.runs["kd0"].never_forgotten == 1
    wrong = {"logits": np.eye(2)[[1]], "labels": np.array([0])}
    result = ask("forgetting", study, scope(study), lambda _: wrong)
    assert np.isnan(result.runs["kd0"].learning_epoch)
    assert np.isnan(result.order_null), "one image"
    json.dumps([panel.model_dump(mode="json") for panel in result.panels()], allow_nan=False)


def test_a_run_with_a_spoilt_checkpoint_is_left_out():
    study = made_up(FAMILY, EPOCHS)

    def look(sight, spoilt=("kd0",)):
        found, point = seen(sight), sight.subjects[0]
        if point.run in spoilt and point.epoch == 2:
            found["logits"] = np.full_like(found["logits"], np.nan)
        return found

    result = ask("forgetting", study, scope(study), look)
    assert list(result.runs) == ["teacher", "baseline0"]
    assert result.lacking()[0].startswith("run 'kd0' puts out NaN or infinity for 200 of 200")
    with pytest.raises(Refused, match="run 'baseline0' puts out NaN"):
        ask("forgetting", study, scope(study), lambda s: look(s, ("kd0", "baseline0")))


@pytest.mark.parametrize(
    ("family", "epochs", "reason"),
    [
        (FAMILY[:1], EPOCHS, "only a teacher"),
        (FAMILY, (0, 1), "needs at least 3 checkpoints at the same epochs in every run, found 2"),
    ],
)
def test_what_it_needs_is_said(family, epochs, reason):
    study = made_up(family, epochs)
    with pytest.raises(NotApplicable, match=reason):
        ask("forgetting", study, scope(study), seen)
