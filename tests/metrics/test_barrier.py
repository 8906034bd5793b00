"""Barriers of paths whose loss is known, and which networks are compared."""

from dataclasses import replace

import numpy as np
import pytest
from stage import ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.barrier import REFERENCE, heights, hill, ways
from kdprobe.metrics.contract import METRICS, conclude

SEEDS = [
    (arm, role, seed)
    for arm, role in (("b", "baseline"), ("kd", "student"), ("ls", "control"))
    for seed in (0, 1, 2)
]
STEPS = np.linspace(0, 1, 5)


def test_a_parabola_over_a_slope_has_its_own_height():
    gain = np.array([1.0, 3.0, 8.0])
    losses = 2 - STEPS[:, None] + 4 * gain * (STEPS * (1 - STEPS))[:, None]
    above = heights(STEPS, losses)
    np.testing.assert_allclose(above, 4 * gain * (STEPS * (1 - STEPS))[:, None], atol=1e-12)
    found = hill(above)
    assert found.height == pytest.approx(4.0)
    assert found.error == pytest.approx(gain.std(ddof=1) / np.sqrt(3))
    assert found.optimism == pytest.approx(4.0 - (4.5 + 3.0) / 2), "of the halves (1, 8) and (3,)"


def test_a_valley_is_no_hill():
    found = hill(heights(STEPS, np.tile((STEPS - 0.5)[:, None] ** 2, 4)))
    assert (found.height, found.error, found.optimism) == (0, 0, 0)


def test_the_height_does_not_depend_on_the_end_one_starts_from():
    losses = np.random.default_rng(0).uniform(size=(5, 8))
    one, other = hill(heights(STEPS, losses)), hill(heights(STEPS, losses[::-1]))
    assert one.height == pytest.approx(other.height)
    assert one.error == pytest.approx(other.error)


def test_the_optimism_is_what_noise_alone_gives():
    """Of noise around no hill the maximum is above 0, and the crossed height is not."""
    chance = np.random.default_rng(0)
    crossed, plain = [], []
    for _ in range(300):
        above = chance.normal(size=(11, 20))
        above[[0, -1]] = 0
        found = hill(above)
        plain.append(found.height)
        crossed.append(found.height - found.optimism)
    assert np.mean(plain) > 0.2
    assert abs(np.mean(crossed)) < 4 * np.std(crossed) / np.sqrt(300)


def pairs(study):
    return {(one.id, two.id): group for (one, two), group in ways(study).items()}


def test_learners_are_compared_with_the_baseline_of_their_seed_and_baselines_in_a_ring():
    found = pairs(made_up([("t", "teacher", None), *SEEDS]))
    assert {pair for pair, group in found.items() if group == "kd"} == {
        ("b0", "kd0"),
        ("b1", "kd1"),
        ("b2", "kd2"),
    }
    assert {pair for pair, group in found.items() if group == "ls"} == {
        ("b0", "ls0"),
        ("b1", "ls1"),
        ("b2", "ls2"),
    }
    assert {pair for pair, group in found.items() if group == REFERENCE} == {
        ("b0", "b1"),
        ("b1", "b2"),
        ("b2", "b0"),
    }
    two = pairs(made_up([("b", "baseline", 0), ("b", "baseline", 1)]))
    assert two == {("b0", "b1"): REFERENCE}, "once, not from either side"


def test_networks_of_two_architectures_are_not_compared():
    study = made_up([("b", "baseline", 0), ("kd", "student", 0)])
    other = study.runs[1].entry.network.model_copy(update={"name": "resnet14"})
    entry = study.runs[1].entry.model_copy(update={"network": other})
    study = replace(study, runs=(study.runs[0], replace(study.runs[1], entry=entry)))
    with pytest.raises(NotApplicable, match="needs a baseline and another learner of one"):
        ask("barrier", study, scope(study), lambda _: pytest.fail("looked"))


def seen(sight):
    told = dict(sight.settings)
    steps = np.linspace(0, 1, told["points"])
    tall = 4.0 if sight.subjects[1].run.startswith("b") else 1.0
    bump = (4 * steps * (1 - steps))[:, None] * np.array([0.5, 1.5]) * tall
    return {
        "steps": steps,
        "anew": 1 + bump,
        "interpolated": 1 + 2 * bump,
        "distance": np.array(3.0),
        "norms": np.array(9),
    }


def test_both_kinds_of_statistics_are_told_with_the_reference():
    study = made_up(SEEDS)
    result = ask("barrier", study, scope(study, images=64), seen)
    assert result.images == 2
    kd, *_ = (c for c in result.crossings if c.group == "kd")
    assert (kd.start, kd.end, kd.distance, kd.ends) == ("b0", "kd0", 3.0, (1.0, 1.0))
    assert kd.anew.height == pytest.approx(1)
    assert kd.anew.error == pytest.approx(0.5)
    assert kd.interpolated.height == pytest.approx(2)
    lines, groups, table = result.panels()
    assert [series.name for series in lines.series] == ["kd", "ls", REFERENCE]
    assert lines.series[2].y[5] == pytest.approx(4)
    assert ("kd", "interpolated", 3, 2.0, 0.0) in groups.rows
    assert (REFERENCE, "anew", 3, 4.0, 0.0) in groups.rows
    assert len(table.rows) == 9


def test_without_batch_norm_there_is_one_number_and_it_is_said():
    study = made_up(SEEDS)
    result = ask("barrier", study, scope(study), lambda s: {**seen(s), "norms": np.array(0)})
    assert "have no BatchNorm" in result.panels()[0].how_to_read


def test_what_cannot_be_measured_is_refused_before_any_look():
    study = made_up(SEEDS)
    with pytest.raises(UsageError, match=r"barrier\.points is 2; wanted at least 3"):
        ask("barrier", study, scope(study), seen, points=2)
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 3"):
        ask("barrier", study, scope(study, available=3), seen)


def test_a_way_that_could_not_be_walked_is_left_out():
    study = made_up(SEEDS)
    inquiry = METRICS["barrier"].ask(study, scope(study))
    sights = next(inquiry)

    class Foggy(dict):
        def __getitem__(self, sight):
            if sight.subjects[1].run == "kd1":
                raise Refused("found fog")
            return super().__getitem__(sight)

    result = conclude(inquiry, Foggy({sight: seen(sight) for sight in sights}))
    assert len(result.crossings) == 8
    assert result.lacking() == ["found fog"]
