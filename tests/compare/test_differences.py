"""Differences over seeds, against scipy's t-tests and the house's own bootstrap."""

import numpy as np
import pytest
from comparable import quantity, sample, side
from scipy import stats as reference

from kdprobe.comparing.differences import differences, gap, is_paired, over_seeds, seeds_of
from kdprobe.comparing.record import Row, Sample
from kdprobe.stats import holm, mean_of_defined, paired_bootstrap


@pytest.mark.parametrize("draw", range(5))
@pytest.mark.parametrize("count", [3, 4, 9])
def test_paired_is_students_t(draw, count):
    chance = np.random.default_rng(draw)
    one, two = chance.normal(size=(2, count)) + 1e3
    found = gap(sample(*one), sample(*two), paired=True)
    known = reference.ttest_rel(one, two)
    low, high = known.confidence_interval(0.95)
    assert found.p_value == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.effect == pytest.approx((one - two).mean())


@pytest.mark.parametrize("draw", range(5))
@pytest.mark.parametrize("counts", [(3, 3), (3, 8), (5, 4)])
def test_unpaired_is_welchs(draw, counts):
    chance = np.random.default_rng(draw)
    one, two = chance.normal(size=counts[0]), chance.normal(0.3, 4.0, size=counts[1])
    found = gap(sample(*one), sample(*two), paired=False)
    known = reference.ttest_ind(one, two, equal_var=False)
    low, high = known.confidence_interval(0.95)
    assert found.p_value == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_paired_is_the_bootstrap_of_the_claims_where_images_do_not_vary():
    one, two = np.array([[0.9], [0.7], [0.75], [0.8]]), np.array([[0.5], [0.6], [0.6], [0.7]])
    found = gap(sample(*one[:, 0]), sample(*two[:, 0]), paired=True)
    house = paired_bootstrap(one, two, mean_of_defined)
    assert (found.effect, found.low, found.high, found.p_value) == pytest.approx(
        (house.effect, house.low, house.high, house.p_value)
    )


def test_pairs_are_found_by_seed_not_by_order():
    one = sample(1.0, 2.0, 3.0, seeds=(7, 8, 9))
    two = sample(2.9, 1.9, 0.9, seeds=(9, 8, 7))
    assert gap(one, two, paired=True).error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_fewer_than_three_seeds_have_no_interval(paired):
    found = gap(sample(1.0, 2.0), sample(0.0, 0.5), paired=paired)
    assert found.effect == 1.25
    assert (found.low, found.high, found.p_value) == (None, None, None)


@pytest.mark.parametrize("paired", [True, False])
def test_numbers_that_are_alike_stay_so_whatever_the_rounding_of_their_mean(paired):
    found = gap(sample(0.9, 0.9, 0.9), sample(0.3, 0.3, 0.3), paired=paired)
    assert found.low == found.high == found.effect
    assert found.p_value == (0.25 if paired else 0.1)


def test_equal_numbers_differ_by_nothing_however_many_they_are():
    found = gap(sample(*[0.1] * 4), sample(*[0.1] * 6), paired=False)
    assert (found.effect, found.p_value) == (0.0, 1.0)


def test_without_spread_the_p_value_is_that_of_a_permutation():
    alike = over_seeds(np.full(4, 0.5), np.ones(4))
    assert (alike.low, alike.high, alike.p_value) == (0.5, 0.5, 2**-3)
    assert over_seeds(np.zeros(4), np.ones(4)).p_value == 1.0
    apart = gap(sample(1.0, 1.0, 1.0), sample(0.0, 0.0, 0.0), paired=False)
    assert apart.p_value == pytest.approx(2 / 20)


@pytest.mark.parametrize(
    ("seeds", "known"),
    [
        ((0, 1), frozenset({0, 1})),
        ((0, 0), None),
        ((0, None), None),
        ((None, None), None),
        ((), None),
    ],
)
def test_seeds_pair_only_where_each_is_known_and_its_own(seeds, known):
    assert seeds_of(sample(*(1.0 for _ in seeds), seeds=seeds)) == known


@pytest.mark.parametrize(
    ("one", "two", "paired"),
    [
        (side("a", "kd", "s"), side("b", "ce", "s"), True),
        (side("a", "kd", "s"), side("b", "kd", "t"), True),
        (side("a", "kd", "s"), side("b", "ce", "t"), False),
        (side("s", "", "s"), side("t", "", "t"), True),
    ],
)
def test_who_shares_chance_is_paired(one, two, paired):
    assert is_paired(one, sample(1.0, 2.0), two, sample(3.0, 4.0)) is paired
    assert not is_paired(one, sample(1.0, 2.0), two, sample(3.0, 4.0, 5.0))


def test_p_values_are_adjusted_over_places_and_sides_of_a_quantity():
    chance = np.random.default_rng(1)
    sides = [side("base", "x"), side("one", "y"), side("two", "z")]
    rows = [
        Row(
            quantity=name,
            at={"layer": layer},
            samples=tuple(sample(*(shift + chance.normal(size=4))) for shift in (0.0, 1.0, 2.0)),
        )
        for name in ("q", "r")
        for layer in ("a", "b")
    ]
    found = differences(rows, sides, [quantity("q"), quantity("r", "neither")], "base")
    for name in ("q", "r"):
        mine = [d for d in found if d.quantity == name]
        raw = [
            reference.ttest_rel(row.samples[place].values, row.samples[0].values).pvalue
            for row in rows
            if row.quantity == name
            for place in (1, 2)
        ]
        assert [d.p_value for d in mine] == pytest.approx(holm(raw))


@pytest.mark.parametrize(
    ("better", "up", "down"),
    [("higher", "better", "worse"), ("lower", "worse", "better"), ("neither", "higher", "lower")],
)
def test_the_direction_names_a_decided_difference(better, up, down):
    sides = [side("base", "x"), side("up", "y"), side("down", "z"), side("same", "v")]
    base = (0.0, 0.01, 0.02, 0.03)
    rows = [
        Row(
            quantity="q",
            at={},
            samples=tuple(
                sample(*(v + shift + 0.001 * i * (shift != 0) for i, v in enumerate(base)))
                for shift in (0.0, 1.0, -1.0, 0.0)
            ),
        )
    ]
    found = differences(rows, sides, [quantity(better=better)], "base")
    assert [d.outcome for d in found] == [up, down, "equal"]
    assert [d.seeds for d in found] == [4, 4, 4]


def test_a_side_without_numbers_has_no_difference():
    rows = [Row(quantity="q", at={}, samples=(sample(1.0), Sample(), sample(2.0)))]
    found = differences(rows, [side("a"), side("b"), side("c")], [quantity()], "a")
    assert [(d.side, d.effect, d.outcome) for d in found] == [("c", 1.0, "undecided")]
