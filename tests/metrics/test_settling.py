"""When a layer settles: from CKA over checkpoints to an epoch."""

import numpy as np
import pytest
from stage import FAMILY, LAYERS, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.settling import settled
from kdprobe.metrics.settling_page import over_runs
from kdprobe.panels import Forest, Heatmap, Table

SEEDS = (0, 1, 2)
SEVERAL = [("baseline", "baseline", s) for s in SEEDS] + [("kd", "student", s) for s in SEEDS]
EPOCHS = (0, 1, 3, 8)


@pytest.mark.parametrize(
    ("alike", "place"),
    [
        ([0.1, 0.5, 0.95, 1.0], 2),
        ([0.95, 0.5, 0.95, 1.0], 2),
        ([0.95, 0.95, 0.9, 1.0], 0),
        ([0.1, 0.5, 0.6, 1.0], 3),
        ([np.nan, 0.95, 0.95, 1.0], 1),
        ([np.nan] * 4, np.nan),
    ],
)
def test_settled_is_where_it_begins_to_stay(alike, place):
    np.testing.assert_equal(settled(np.array(alike), 0.9), place)


def test_levels_may_differ_by_layer():
    alike = np.array([[0.5, 0.7, 1.0], [0.5, 0.7, 1.0]])
    assert settled(alike, np.array([0.6, 0.8])).tolist() == [1, 2]


def test_a_way_at_steady_speed_settles_at_the_angle_of_the_level():
    """Features that turn by an angle have CKA cos^2 with their end: the level says which angle."""
    angles = np.linspace(0, np.pi / 2, 91)
    place = settled(np.cos(angles[::-1]) ** 2, 0.9)
    assert np.degrees(angles[::-1][int(place)]) == pytest.approx(
        np.degrees(np.arccos(0.9**0.5)), abs=1
    )


def walk(levels):
    """(k, k) HSIC of unit kernels whose product with the last is `levels`."""
    size = len(levels)
    cross = np.eye(size)
    cross[:, -1] = cross[-1, :] = levels
    return cross


def answer(sight):
    """Students settle at epoch 1, baselines at 3, except for the logits, which never do."""
    ids = {checkpoint.run for checkpoint in sight.subjects}
    if len(ids) > 1:
        cross = np.stack([np.full((3, 3), 0.5) + 0.5 * np.eye(3)] * 2)
    else:
        assert tuple(checkpoint.epoch for checkpoint in sight.subjects) == EPOCHS
        second = 0.92 if next(iter(ids)).startswith("kd") else 0.7
        cross = np.stack([walk([0.4, second, 0.95, 1]), walk([0.1, 0.2, 0.3, 1])])
    off = 0.03 * (1 - np.eye(cross.shape[1]))
    return {
        "cross": cross,
        "without/cross": np.stack([cross - off, cross + off]),
        "share": np.array([0.5, 0.5]),
        "images": np.array(24),
    }


def test_epochs_and_their_ranges():
    study = made_up(SEVERAL, EPOCHS)
    result = ask("settling", study, scope(study), answer)
    assert result.images == 24
    at = result.runs["baseline0"]
    assert at.settled.tolist() == [3, 8]
    np.testing.assert_allclose(at.alike[0], [0.4, 0.7, 0.95, 1])
    np.testing.assert_allclose(at.error[0], [0.03, 0.03, 0.03, 0])
    assert (at.earliest[0], at.latest[0]) == (3, 8), "0.95 - 2 * 0.03 is below the level"
    assert at.own.tolist() == [1, 8], "as like its end as another seed's end, 0.5, is"
    assert result.runs["kd2"].settled.tolist() == [1, 8]
    np.testing.assert_allclose(result.between_seeds["kd"].alike, [0.5, 0.5])
    np.testing.assert_allclose(result.between_seeds["kd"].error, [0.03, 0.03])
    assert result.later["kd, pooled"].effect == -2
    assert result.later["kd, logits"].effect == 0
    assert as_values(result)["runs"]["kd0"]["settled"] == [1.0, 8.0]


def test_panels_are_by_arm_and_tables_by_arm_and_run():
    study = made_up(SEVERAL, EPOCHS)
    panels = ask("settling", study, scope(study), answer).panels()
    maps = [panel for panel in panels if isinstance(panel, Heatmap)]
    assert [panel.title.split()[2] for panel in maps] == ["baseline", "kd"] * 2
    assert maps[1].values[0] == (0.4, 0.92, 0.95, 1.0)
    assert maps[0].columns == ("0", "1", "3", "8")
    assert maps[2].values[0] == (1.0, 0.0, 0.0, 0.25), "mean over layers"
    (forest,) = (panel for panel in panels if isinstance(panel, Forest))
    assert [effect.value for effect in forest.effects] == [-2, 0]
    by_arm, by_run = (panel for panel in panels if isinstance(panel, Table))
    assert ("kd", "pooled", 1.0, 1.0, 1.0, 3, 0.4, 0.5, 0.03, 1.0) in by_arm.rows
    assert ("kd1", "pooled", 1.0, 1.0, 8.0) in by_run.rows


def test_another_level():
    study = made_up(SEVERAL, EPOCHS)
    result = ask("settling", study, scope(study), answer, level=0.25)
    assert result.runs["baseline0"].settled.tolist() == [0, 3]


def test_an_interval_needs_three_seeds():
    assert over_runs(np.array([1.0, 2.0]))[0] == 1.5
    assert np.isnan(over_runs(np.array([1.0, 2.0, np.nan]))[1:]).all()
    mean, low, high = over_runs(np.array([1.0, 2.0, 3.0]))
    assert (mean, high - mean) == pytest.approx((2, 4.302653 / 3**0.5))
    assert mean - low == pytest.approx(high - mean)
    assert np.isnan(over_runs(np.full(3, np.nan))).all()


def test_a_layer_without_cka_has_no_epoch():
    def dead(sight):
        seen = dict(answer(sight))
        for name in ("cross", "without/cross"):
            seen[name] = seen[name].copy()
            seen[name][..., 1, :, :] = 0
        return seen

    study = made_up(SEVERAL, EPOCHS)
    result = ask("settling", study, scope(study), dead)
    assert np.isnan(result.runs["kd0"].settled[1])
    assert "kd, logits" not in result.later
    maps = [panel for panel in result.panels() if isinstance(panel, Heatmap)]
    assert maps[0].values[1] == (None,) * 4
    assert maps[2].values[0] == (1.0, 0.0, 0.0, 0.4), "of the layer that has one"


class Fog(dict):
    """A look that was refused for some."""

    def __init__(self, seen, hidden):
        super().__init__(seen)
        self.hidden = hidden

    def __getitem__(self, sight):
        if self.hidden(sight):
            raise Refused("found fog")
        return super().__getitem__(sight)


def asked_in_fog(hidden):
    study = made_up(SEVERAL, EPOCHS)
    inquiry = METRICS["settling"].ask(study, scope(study))
    sights = next(inquiry)
    return conclude(inquiry, Fog({sight: answer(sight) for sight in sights}, hidden))


def test_what_could_not_be_looked_at_is_left_out():
    result = asked_in_fog(lambda sight: sight.subjects[0].run == "kd0")
    assert "kd0" not in result.runs
    assert list(result.between_seeds) == ["baseline"]
    assert result.lacking() == ["found fog"]
    assert np.isnan(result.runs["kd1"].own).all()
    assert result.panels()
    with pytest.raises(Refused, match="found fog"):
        asked_in_fog(lambda sight: True)


@pytest.mark.parametrize(
    ("family", "epochs", "reason"),
    [
        ([("teacher", "teacher", None)], EPOCHS, "only a teacher"),
        (FAMILY, (3,), "at least two checkpoints"),
    ],
)
def test_a_learner_with_checkpoints_is_needed(family, epochs, reason):
    study = made_up(family, epochs)
    with pytest.raises(NotApplicable, match=reason):
        ask("settling", study, scope(study), answer)


def test_images_are_needed():
    study = made_up(SEVERAL, EPOCHS)
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 2"):
        ask("settling", study, scope(study, available=2), answer)


@pytest.mark.parametrize("level", [0.0, 1.0, -3.0])
def test_a_level_is_between_nothing_and_all(level):
    study = made_up(SEVERAL, EPOCHS)
    with pytest.raises(UsageError, match=r"settling\.level is .*; wanted between 0 and 1"):
        ask("settling", study, scope(study), answer, level=level)


def test_layers_of_runs_of_one_arm_may_differ():
    study = made_up(SEVERAL, EPOCHS)
    layers = {run.id: LAYERS for run in study.runs} | {"kd0": ("pooled", "other")}
    result = ask("settling", study, scope(study, similarity_layers=layers), answer)
    assert list(result.between_seeds) == ["baseline"]
    assert result.panels()
