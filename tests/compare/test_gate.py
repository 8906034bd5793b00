"""Gates: which places a rule is about, what its numbers are there, and when it fails."""

import numpy as np
import pytest
from comparable import LAYERS, results, sample, side

from kdprobe.comparing.caveats import partly_known
from kdprobe.comparing.cells import Cell, cases, resolved
from kdprobe.comparing.comparison import compare
from kdprobe.comparing.differences import gap
from kdprobe.comparing.gate import judge_rule, order_gap
from kdprobe.comparing.record import Comparison, Row, Sample
from kdprobe.comparing.rule import parse_rule
from kdprobe.errors import UnknownName, UsageError

WORSE = {"kd": -0.05, "feature": 0.02}


@pytest.fixture(scope="module")
def arms() -> Comparison:
    return compare([results()])


@pytest.fixture(scope="module")
def studies() -> Comparison:
    return compare([results("old"), results("new", gains=WORSE, chance=1)])


def mean(comparison: Comparison, quantity: str, side: str, **at: str) -> float:
    (row,) = (r for r in comparison.rows if r.quantity == quantity and r.at == at)
    place = [entry.name for entry in comparison.sides].index(side)
    found = row.samples[place].mean
    assert found is not None
    return found


def test_a_rule_against_the_baseline_fails_only_where_it_is_worse(studies):
    gate = judge_rule(studies, "rho < baseline - 0.05")
    assert gate.checked == 3 * len(LAYERS)
    assert len(gate.failing) == len(LAYERS)
    assert all("new at arm kd" in line for line in gate.failing)
    shown = f"{mean(studies, 'rho', 'new', arm='kd', layer='logits'):.4g} (4 runs)"
    assert any(shown in line for line in gate.failing)
    assert not gate.passed


@pytest.mark.parametrize(
    ("rule", "failing", "checked"),
    [
        ("accuracy < baseline - 0.05", 1, 4),
        ("accuracy.accuracy < baseline - 0.05", 1, 4),
        ("accuracy[arm=kd] < baseline - 0.05", 1, 1),
        ("accuracy[arm=feature] < baseline - 0.05", 0, 1),
        ("rho[layer=logits] < baseline - 0.05", 1, 3),
        ("rho[arm=kd, layer='logits'] < baseline * 0.9", 1, 1),
        ("accuracy[arm=kd] < accuracy[arm=baseline] - 0.01", 1, 2),
        ("accuracy[arm=kd, side=new] < accuracy[arm=kd, side=old] - 0.05", 1, 1),
        ("accuracy[arm=kd] < baseline(accuracy[arm=baseline]) - 0.02", 1, 1),
        ("accuracy < 0.1", 0, 8),
        ("accuracy < 0.9 and rho > 0", 12, 12),
        ("rho[layer=stage3] + 0.09 < rho[layer=logits]", 6, 6),
        (
            "accuracy < baseline - 0.05 and rho < baseline - 0.05",
            2,
            7,
        ),  # and the teacher's, by its accuracy
        ("accuracy + loss < 1.3", 0, 8),
        ("theirs.speed < 0", 0, 8),
    ],
)
def test_where_a_rule_applies(studies, rule, failing, checked):
    gate = judge_rule(studies, rule)
    assert (len(gate.failing), gate.checked) == (failing, checked)


def test_among_arms_the_brackets_choose_sides(arms):
    assert judge_rule(arms, "accuracy[arm=kd] > accuracy[arm=baseline]").checked == 1
    assert judge_rule(arms, "accuracy[side=kd] > baseline").failing
    assert judge_rule(arms, "accuracy > 2").checked == 4
    assert judge_rule(arms, "accuracy > baseline + 2").checked == 3
    runs = compare([results()], runs=["kd-seed0", "kd-seed1"])
    assert judge_rule(runs, "accuracy[run=kd-seed1] > 0").checked == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("accuracy < accuracy[arm=kd] - 0.001", "accuracy[arm=kd] - 0.001 > accuracy"),
        ("accuracy[arm=kd] < 0.1 or loss > 0", "loss > 0 or accuracy[arm=kd] < 0.1"),
    ],
)
def test_the_order_in_a_rule_chooses_nothing(arms, one, other):
    first, second = judge_rule(arms, one), judge_rule(arms, other)
    assert first.checked == second.checked == 4
    assert len(first.failing) == len(second.failing) > 0


def test_what_one_quantity_lacks_is_judged_by_the_others(studies):
    """The teacher has an accuracy and no rho."""
    either = judge_rule(studies, "accuracy > 0 or rho < 0")
    assert sum("arm teacher" in line for line in either.failing) == 2
    both = judge_rule(studies, "accuracy > 0 and rho > -9")
    assert sum("arm teacher" in line for line in both.unknown) == 2


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e7])
def test_the_unit_of_a_quantity_decides_nothing(scale):
    old, new = [2 * scale, 2.02 * scale, 1.98 * scale], [scale, 1.6 * scale, 0.4 * scale]
    (order,) = parse_rule("q / baseline > 1.2").orders
    own = [ref for ref in order.references if ref.name]
    base = [ref for ref in order.references if not ref.name]
    cells = {own[0]: cell("new", new, (0, 1, 2)), base[0]: cell("old", old, (3, 4, 5))}
    found = order_gap(order, cells)
    assert found.effect == pytest.approx(0.7)
    assert found.error == pytest.approx(0.1733, rel=1e-2)


def cell(name: str, values: list[float], seeds: tuple[int, ...]) -> Cell:
    row = Row(quantity="q", at={}, samples=())
    return Cell(row, side(name), sample(*values, seeds=seeds))


def test_an_order_without_a_quantity_is_as_it_is(arms):
    gate = judge_rule(arms, "accuracy > 0 and 1 < 2", confident=True)
    assert gate.checked == 4
    assert judge_rule(arms, "accuracy > 0 or rho < 0", confident=True).failing


def test_numbers_that_are_alike_fail_nothing_whatever_the_rounding():
    (order,) = parse_rule("q < baseline").orders
    (own, base) = sorted(order.references, key=lambda ref: not ref.name)
    cells = {
        own: cell("new", [0.1] * 6, (0, 1, 2, 3, 4, 5)),
        base: cell("old", [0.1] * 4, (6, 7, 8, 9)),
    }
    found = order_gap(order, cells)
    assert (found.effect, found.low, found.high) == (0, 0, 0)
    assert not order.holds(order.gap({own: 0.1 + 0.2, base: 0.3}))


def test_a_run_that_lost_its_number_is_named(studies):
    """A run that diverged must not leave the mean of the others without a word."""
    rows = []
    for row in studies.rows:
        old, new = row.samples
        here = row.quantity == "accuracy" and row.at == {"arm": "kd"}
        rows.append(
            row.model_copy(update={"samples": (old, Sample(points=new.points[:-1]))})
            if here
            else row
        )
    lost = studies.model_copy(update={"rows": tuple(rows)})
    gate = judge_rule(lost, "accuracy[arm=kd] < baseline - 9")
    assert gate.passed
    assert gate.unknown == tuple(line for line in gate.unknown if "only 3 of 4 runs" in line)
    assert len(gate.unknown) == 1
    assert judge_rule(studies, "accuracy[arm=kd] < baseline - 9").unknown == ()
    assert [(row.quantity, here, of) for row, _, here, of in partly_known(rows)] == [
        ("accuracy", 3, 4)
    ]


def test_a_study_against_itself_fails_no_gate():
    for seed in range(3):
        alike = compare([results("a", chance=seed), results("b", chance=seed)])
        assert {d.effect for d in alike.differences} == {0.0}
        assert {d.outcome for d in alike.differences} == {"equal"}
        for entry in alike.quantities:
            for confident in (False, True):
                for rule in (f"{entry.name} < baseline", f"{entry.name} > baseline"):
                    assert alike.failing(rule, confident=confident) == ()


def test_a_missing_number_fails_nothing_and_is_named(arms):
    gate = judge_rule(arms, "rho < baseline - 9")
    assert gate.passed
    assert len(gate.unknown) == len(LAYERS)
    assert "rho of teacher missing" in gate.unknown[0]


def test_a_gate_that_could_be_judged_nowhere_fails():
    without = compare([results("old"), results("new", without=("stability",))])
    gate = judge_rule(without, "rho < baseline")
    assert gate.checked == 0
    assert "could be judged nowhere" in gate.failing[0]
    assert without.failing("rho < baseline") == gate.failing


def test_a_division_by_zero_is_not_known(arms):
    gate = judge_rule(arms, "accuracy / (loss - loss) < 1")
    assert (gate.checked, len(gate.unknown)) == (0, 4)


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_of_a_rule_is_that_of_the_difference(paired):
    second = results("new", gains={"kd": 0.04}, chance=1, seeds=4 if paired else 5)
    both = compare([results("old", arms=("kd",)), second])
    (order,) = parse_rule("accuracy[arm=kd] < baseline - 0.01").orders
    meant = resolved(order, both)
    (case,) = cases(list(meant.values()), both)
    found = order_gap(order, {ref: case.cells[full] for ref, full in meant.items()})
    (row,) = (r for r in both.rows if r.quantity == "accuracy" and r.at == {"arm": "kd"})
    known = gap(row.samples[1], row.samples[0], paired=paired)
    assert found.effect == pytest.approx(known.effect + 0.01)
    assert found.low == pytest.approx(known.low + 0.01, abs=1e-6)
    assert found.high == pytest.approx(known.high + 0.01, abs=1e-6)
    assert found.p_value != known.p_value


def test_slopes_carry_an_error_through_a_product():
    one = compare([results("old", arms=("kd",)), results("new", arms=("kd",), seeds=5, chance=3)])
    (order,) = parse_rule("accuracy[arm=kd] < baseline * baseline").orders
    meant = resolved(order, one)
    (case,) = cases(list(meant.values()), one)
    cells = {ref: case.cells[full] for ref, full in meant.items()}
    found = order_gap(order, cells)
    (row,) = (r for r in one.rows if r.quantity == "accuracy" and r.at == {"arm": "kd"})
    old, new = np.array(row.samples[0].values), np.array(row.samples[1].values)
    known = (new.var(ddof=1) / 5 + (2 * old.mean()) ** 2 * old.var(ddof=1) / 4) ** 0.5
    assert found.error == pytest.approx(known, rel=1e-4)


def test_confident_asks_for_the_whole_interval():
    clear = compare([results("old"), results("new", gains=WORSE, chance=1)])
    faint = compare([results("old"), results("new", gains={"kd": 0.045}, chance=1)])
    few = compare([results("old", seeds=2), results("new", seeds=2, gains=WORSE, chance=1)])
    rule = "accuracy[arm=kd] < baseline"
    assert judge_rule(clear, rule, confident=True).failing
    for comparison in (faint, few):
        assert judge_rule(comparison, rule).failing
        gate = judge_rule(comparison, rule, confident=True)
        assert gate.passed
        assert len(gate.undecided) == 1


def test_confident_without_a_baseline_is_about_one_sides_mean():
    one = compare([results("old"), results("new")])
    assert judge_rule(one, "accuracy[arm=kd] < 0.95", confident=True).failing
    value = mean(one, "accuracy", "new", arm="kd") + 1e-4
    assert judge_rule(one, f"accuracy[arm=kd] < {value}", confident=True).passed


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("roh < 1", "did you mean 'rho'"),
        ("rho[layr=logits] < 1", "did you mean 'layer'"),
        ("rho[layer=logit] < 1", "did you mean 'logits'"),
        ("rho[side=nwe] < 1", "did you mean 'new'"),
        ("accuracy[layer=logits] < 1", "has no 'layer'"),
        ("baseline(roh) < rho", "did you mean 'rho'"),
    ],
)
def test_a_name_that_is_not_compared_is_refused_with_the_nearest(studies, rule, said):
    with pytest.raises(UnknownName, match=said):
        studies.failing(rule)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("rho + accuracy < baseline", "beside 2 quantities"),
        ("baseline < 1", "beside 0 quantities"),
        ("1 < 2", "baseline alone"),
        ("baseline(rho) < 1", "baseline alone"),
        ("rho < baseline[side=new]", "cannot choose its side"),
        ("accuracy[arm=kd] < accuracy[study=new] + accuracy[arm=kd, side=old]", None),
    ],
)
def test_what_could_mean_several_things_is_refused(studies, rule, said):
    if said is None:
        assert judge_rule(studies, rule).checked
        return
    with pytest.raises(UsageError, match=said):
        judge_rule(studies, rule)


def test_a_reference_that_fits_several_sides_is_refused():
    two = compare([results("a"), results("b")], by="arm")
    with pytest.raises(UsageError, match="2 sides that 'accuracy\\[arm=kd\\]' could mean"):
        judge_rule(two, "accuracy[side=a/baseline] < accuracy[arm=kd]")
