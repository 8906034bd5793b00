"""Ranks over seeds, against closed forms of two sides and of ties."""

import numpy as np
import pytest
from comparable import quantity, sample, side
from scipy.stats import t as students

from kdprobe.comparing.differences import gap
from kdprobe.comparing.ranking import DRAWS, drawn_means, groups, ranking, shares_of_ranks
from kdprobe.comparing.record import Row, Sample


def ranked(*samples: Sample, better: str = "higher", arms: str = "xyzw"):
    rows = [Row(quantity="q", at={}, samples=samples)]
    sides = [side(f"side{place}", arms[place]) for place in range(len(samples))]
    return ranking(rows, sides, [quantity(better=better)])


@pytest.mark.parametrize("draw", range(3))
def test_two_paired_sides_are_first_as_often_as_students_t_says(draw):
    chance = np.random.default_rng(draw)
    one, two = sample(*chance.normal(0.3, 1, 5)), sample(*chance.normal(size=5))
    apart = gap(one, two, paired=True)
    first = students.cdf(apart.effect / apart.error, 4)
    assert ranked(one, two)[0].shares[0] == pytest.approx(first, abs=4 * 0.5 / DRAWS**0.5)


def test_drawn_means_have_the_errors_of_the_seeds():
    one, two = sample(1.0, 2.0, 4.0, 7.0, 1.5), sample(3.0, 1.0, 2.0, 8.0, 1.0)
    sides = [side("a", "x"), side("b", "y")]
    draws = [drawn_means(sides, [one, two], np.random.default_rng(seed)) for seed in range(30)]
    drawn = np.concatenate(draws)
    for column, mine in enumerate((one, two)):
        error = np.std(mine.values, ddof=1) / 5**0.5
        inside = np.mean(np.abs(drawn[:, column] - mine.mean) < students.ppf(0.975, 4) * error)
        assert inside == pytest.approx(0.95, abs=0.006)
    paired = gap(one, two, paired=True)
    apart = drawn[:, 0] - drawn[:, 1]
    inside = np.mean((apart > paired.low) & (apart < paired.high))
    assert inside == pytest.approx(0.95, abs=0.006)


def test_sides_of_other_seeds_are_drawn_apart():
    one, two = sample(1.0, 2.0, 3.0), sample(1.0, 2.0, 3.0, seeds=(5, 6, 7))
    drawn = drawn_means([side("a", "x"), side("b", "y")], [one, two], np.random.default_rng(0))
    assert abs(np.corrcoef(np.argsort(np.argsort(drawn, axis=0), axis=0).T)[0, 1]) < 0.1
    same = drawn_means([side("a", "x"), side("b", "y")], [one, one], np.random.default_rng(0))
    assert np.array_equal(same[:, 0], same[:, 1])


@pytest.mark.parametrize("draw", range(3))
def test_a_third_side_of_other_seeds_leaves_two_paired(draw):
    chance = np.random.default_rng(draw)
    common = 3 * chance.normal(size=5)
    one, two = (
        sample(*(common + chance.normal(0.3, 1, 5))),
        sample(*(common + chance.normal(size=5))),
    )
    far = sample(-1e3, -1e3 + 1, -1e3 + 2)
    apart = gap(one, two, paired=True)
    first = students.cdf(apart.effect / apart.error, 4)
    assert ranked(one, far, two)[0].shares[0] == pytest.approx(first, abs=4 * 0.5 / DRAWS**0.5)


def test_only_those_that_are_all_paired_share_their_chance():
    here, later = sample(1.0, 2.0, 3.0), sample(1.0, 2.0, 3.0, seeds=(5, 6, 7))
    grid = [side(f"{study}/{arm}", arm, study) for study in "ab" for arm in ("kd", "ce")]
    assert groups(grid, [here] * 4) == [[0, 1], [2, 3]]
    assert groups(grid[:1] + grid[2:3], [here] * 2) == [[0, 1]]  # one arm of two studies
    assert groups(grid, [here, later, here, later]) == [[0, 2], [1, 3]]
    unknown = sample(1.0, 2.0, 3.0, seeds=(None, None, None))
    assert groups(grid[:3], [unknown, here, unknown]) == [[0], [1], [2]]


@pytest.mark.parametrize(("seeds", "high"), [(3, 2), (4, 2), (7, 1)])
def test_without_spread_no_rank_is_surer_than_a_permutation(seeds, high):
    first, second = ranked(sample(*[9.0] * seeds), sample(*[1.0] * seeds))
    assert (first.rank, first.low, first.high) == (1.0, 1, high)
    assert second.shares[0] == pytest.approx(2.0**-seeds, abs=4 * (2.0**-seeds / DRAWS) ** 0.5)
    drifted = ranked(sample(*range(1, seeds + 1)), sample(*range(seeds)))
    assert drifted[0].high == high


def test_sides_that_are_alike_in_all_seeds_share_their_ranks():
    found = ranked(sample(9.0, 9.0, 9.0), sample(2.0, 2.0, 2.0), sample(2.0, 2.0, 2.0))
    assert [r.rank for r in found] == [1.0, 2.5, 2.5]
    assert found[1].shares == found[2].shares
    assert (found[1].low, found[1].high) == (1, 3)
    assert found[1].shares == pytest.approx((0.0625, 0.5, 0.4375), abs=0.02)


def test_equal_values_share_their_ranks_evenly():
    shares = shares_of_ranks(np.array([[1.0, 2.0, 1.0]]))
    assert shares.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]
    alike = sample(1.0, 2.0, 3.0)
    assert [(r.rank, r.low, r.high, r.shares) for r in ranked(alike, alike)] == [
        (1.5, 1, 2, (0.5, 0.5))
    ] * 2


def test_shares_are_those_of_counting_orders():
    values = np.random.default_rng(0).normal(size=(200, 4))
    ranks = values.argsort(1).argsort(1)
    counted = [[np.mean(ranks[:, s] == r) for r in range(4)] for s in range(4)]
    assert np.allclose(shares_of_ranks(values), counted)


@pytest.mark.parametrize(
    ("better", "first"), [("higher", "side1"), ("neither", "side1"), ("lower", "side0")]
)
def test_the_direction_says_who_is_first(better, first):
    found = ranked(sample(1.0, 1.1, 1.2), sample(9.0, 9.1, 9.3), better=better)
    assert next(r.side for r in found if r.rank == 1) == first
    assert all((r.low, r.high) == (r.rank, r.rank) for r in found)


def test_few_seeds_are_left_out_or_have_no_interval():
    found = ranked(sample(9.0), sample(1.0, 1.1, 1.2), sample(2.0, 2.1, 2.2))
    assert [(r.side, r.rank) for r in found] == [("side1", 2.0), ("side2", 1.0)]
    found = ranked(sample(9.0), sample(1.0, 1.1, 1.2))
    assert [(r.side, r.rank, r.low, r.shares) for r in found] == [
        ("side0", 1.0, None, ()),
        ("side1", 2.0, None, ()),
    ]
    assert ranked(sample(1.0, 2.0, 3.0), Sample()) == ()
