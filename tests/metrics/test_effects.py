"""Differences to the baseline: paired by seed, with intervals where the seeds allow them."""

import numpy as np
import pytest
from stage import made_up

from kdprobe.metrics.effects import forest, over_images, over_seeds

SEEDS = (0, 1, 2)
RUNS = [("b", "baseline", s) for s in SEEDS] + [("kd", "student", s) for s in SEEDS]


def test_a_planted_difference_is_found_over_images():
    chance = np.random.default_rng(0)
    level = {seed: chance.normal(size=50) for seed in SEEDS}
    values = {f"b{s}": level[s] for s in SEEDS} | {
        f"kd{s}": level[s] + 0.5 + 0.01 * chance.normal(size=50) for s in SEEDS
    }
    found = over_images(made_up(RUNS), values)["kd"]
    assert found.effect == pytest.approx(0.5, abs=0.01)
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.1
    assert (found.seeds, found.images) == (3, 50)


def test_one_number_a_run_has_students_interval():
    values = {"b0": 1.0, "b1": 2.0, "b2": 3.0, "kd0": 2.0, "kd1": 3.5, "kd2": 4.5}
    found = over_seeds(made_up(RUNS), values)["kd"]
    effects = np.array([1.0, 1.5, 1.5])
    reach = 4.302653 * effects.std(ddof=1) / 3**0.5
    assert found.effect == pytest.approx(effects.mean())
    assert (found.low, found.high) == pytest.approx(
        (effects.mean() - reach, effects.mean() + reach), rel=1e-5
    )


def test_two_seeds_have_no_interval_and_a_missing_run_takes_its_pair_along():
    values = {"b0": 1.0, "b1": 2.0, "b2": 3.0, "kd0": 2.0, "kd1": 3.5}
    found = over_seeds(made_up(RUNS), values)
    assert found["kd"].effect == pytest.approx(1.25)
    assert np.isnan(found["kd"].low)
    panel = forest("t", "x", found)
    assert panel.effects[0].low is None
    assert "2 seeds" in panel.how_to_read
    assert over_seeds(made_up(RUNS), {"kd0": 1.0}) == {}
