"""CKA from HSIC, its error and its null, and the page of it."""

import numpy as np
import pytest
from scipy.special import stdtr
from stage import FAMILY, LAYERS, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.alignment import adjusted, jackknife, normalised, reach, variant_of
from kdprobe.metrics.contract import as_values
from kdprobe.panels import Forest, Heatmap, Table

SEEDS = (0, 1, 2)
SEVERAL = [("teacher", "teacher", None)]
SEVERAL += [("baseline", "baseline", s) for s in SEEDS] + [("kd", "student", s) for s in SEEDS]


def test_a_layer_is_one_with_itself_and_less_with_another():
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(4, 50))  # any inner product will do
    cross = rows @ rows.T
    own = np.diag(cross)
    found = normalised(cross, own, own)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)
    assert (np.abs(found) <= 1 + 1e-12).all()
    np.testing.assert_allclose(found, np.corrcoef(rows, rowvar=True), atol=0.2)
    np.testing.assert_allclose(normalised(9 * cross, 9 * own, 9 * own), found)
    many = normalised(np.stack([cross, 2 * cross]), np.stack([own, own]), np.stack([own, own]))
    np.testing.assert_allclose(many, [found, 2 * found])


def test_a_dead_layer_has_no_cka():
    found = normalised(np.zeros((2, 1)), np.array([0.0, 1.0]), np.array([2.0]))
    assert np.isnan(found[0, 0])
    assert found[1, 0] == 0


def test_the_error_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(0).normal(size=12)
    without = (values.sum() - values) / 11
    found = jackknife(values.mean(), without, np.full(12, 1 / 12))
    assert found == pytest.approx(values.std(ddof=1) / 12**0.5)


def test_groups_of_unequal_size_are_weighed():
    """The error that the jackknife gives of a mean is right on average, whatever the groups."""
    chance, sizes = np.random.default_rng(1), np.array([1, 1, 1, 2, 3, 4])
    parts = np.split(np.arange(12), np.cumsum(sizes)[:-1])
    found = []
    for _ in range(2000):
        values = chance.normal(size=12)
        without = np.array([np.delete(values, part).mean() for part in parts])
        found.append(float(jackknife(values.mean(), without, sizes / 12)) ** 2)
    assert np.mean(found) == pytest.approx(1 / 12, rel=0.1)
    assert np.isnan(jackknife(np.zeros(2), np.zeros((0, 2)), np.zeros(0))).all()


def test_p_values_are_of_the_largest_deviation_anywhere():
    seen = {
        "cross": np.array([[5.0, 1.0, 0.0]]),
        "chance": np.array([[1.0, 0.0, 0.0]]),
        "spread": np.array([[2.0, 2.0, 0.0]]),
        "highest": np.array([2.0, 0.6, 1.9, 3.0]),
    }
    np.testing.assert_allclose(adjusted(seen), [[3 / 5, 5 / 5, 5 / 5]])


@pytest.mark.parametrize("draws", [19, 20, 99, 200, 5])
def test_the_null_parts_what_is_beyond_chance_from_what_is_not(draws):
    random = np.random.default_rng(draws)
    cross = random.normal(2, 1, (6, 4))
    seen = {
        "cross": cross,
        "chance": random.normal(0, 0.2, (6, 4)),
        "spread": random.uniform(0.5, 1.5, (6, 4)),
        "highest": random.gumbel(1.5, 0.4, draws),
    }
    beyond = cross > reach(seen)
    np.testing.assert_array_equal(beyond, adjusted(seen) < 0.05)
    assert beyond.any() == (draws >= 20), "fewer draws cannot tell"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "linear CKA, debiased HSIC, mean over 4 minibatches of 128, 512 images"),
        ({"batch": 512}, "linear CKA, debiased HSIC, full, 512 images"),
        ({"batch": 999, "estimator": "biased"}, "linear CKA, biased HSIC, full, 512 images"),
        (
            {"kernel": "rbf", "bandwidth": 0.4, "precision": "bf16"},
            "rbf (bandwidth 0.4 of the median distance) CKA, debiased HSIC, "
            "mean over 4 minibatches of 128, 512 images, in bf16",
        ),
    ],
)
def test_the_variant_has_a_name(changes, name):
    plain = {"kernel": "linear", "bandwidth": 0.8, "estimator": "debiased", "precision": "float32"}
    assert variant_of(**(plain | {"batch": 128, "images": 512} | changes)) == name


def similar(runs, level):
    """An answer in which each pair of runs is as alike as `level(one, two)` says."""

    def answer(sight):
        ids = [checkpoint.run for checkpoint in sight.subjects]
        assert ids == [run for run, *_ in runs]
        assert {checkpoint.epoch for checkpoint in sight.subjects} == {2}, "last checkpoints"
        settings = dict(sight.settings)
        assert settings["layers"] == tuple(f"{i}/{n}" for i in range(len(ids)) for n in LAYERS)
        references = settings["references"]
        cross = np.block([[level(one, two) for two in ids[:references]] for one in ids])
        size = len(cross)
        return {
            "cross": cross,
            "own": np.ones(size),
            "without/cross": np.stack([cross - 0.01, cross + 0.01]),
            "without/own": np.ones((2, size)),
            "share": np.array([0.5, 0.5]),
            "chance": np.zeros_like(cross),
            "spread": np.full_like(cross, 0.1),
            "highest": np.linspace(0, 1.5, 99),
            "p": np.ones_like(cross),
            "images": np.array(24),
        }

    return answer


def runs_of(family):
    return [(arm if seed is None else f"{arm}{seed}", role) for arm, role, seed in family]


def level(one, two):
    """With the teacher 0.6 at pooled and 0.2 at logits; kd as much more as its seed says."""
    value = np.array([[0.6, 0.05], [0.05, 0.2]])
    if two == "teacher" and one.startswith("kd"):
        return value + np.diag([0.2 + 0.01 * int(one[-1]), 0.0])
    if one.startswith("kd") and two.startswith("baseline"):
        return value - (0.3 if one[-1] == two[-1] else 9)
    if one == two:
        return value + 9
    return value


def test_maps_are_means_over_seeds_and_differences_have_intervals():
    study = made_up(SEVERAL)
    answer = similar(runs_of(SEVERAL), level)
    result = ask("cka", study, scope(study), answer, images=100, batch=8)
    assert result.images == 24, "what was looked at, not what was asked for"
    panels = result.panels()
    maps = [panel for panel in panels if isinstance(panel, Heatmap)]
    assert [panel.row_label for panel in maps] == ["baseline", "kd", "any network"]
    assert maps[0].values == ((0.6, 0.05), (0.05, 0.2))
    assert maps[1].values == ((0.81, 0.05), (0.05, 0.2))
    assert maps[1].rows == LAYERS
    assert "6 of 12 values" in maps[1].how_to_read, "0.05 and 0.2 are 0.5 and 2 spreads off"
    nearer = {(gap.arm, gap.layer): gap for gap in result.nearer_teacher}
    assert nearer["kd", "pooled"].effect == pytest.approx(0.21)
    assert nearer["kd", "pooled"].low == pytest.approx(0.21 - 4.302653 * 0.01 / 3**0.5)
    alone = 2 * stdtr(2, -0.21 / (0.01 / 3**0.5))
    assert nearer["kd", "pooled"].p == pytest.approx(2 * alone, rel=1e-4), "two layers, by Holm"
    assert (nearer["kd", "logits"].effect, nearer["kd", "logits"].p) == (0, 1)
    beside = {(gap.arm, gap.layer): gap.effect for gap in result.nearer_baseline}
    assert beside == {("kd", "pooled"): pytest.approx(-0.3), ("kd", "logits"): pytest.approx(-0.3)}
    assert list(result.beside["kd1"].others) == ["baseline1"], "of its seed"
    assert list(result.beside["baseline1"].others) == ["baseline0", "baseline2"], "of others"
    assert [len(panel.effects) for panel in panels if isinstance(panel, Forest)] == [2, 2]
    assert result.findings() == result.lacking() == []


def test_the_table_has_errors_p_values_and_the_baseline():
    study = made_up(SEVERAL)
    result = ask("cka", study, scope(study), similar(runs_of(SEVERAL), level))
    table = next(p for p in result.panels() if isinstance(p, Table) and p.name == "cka")
    rows = {row[:2]: row[2:] for row in table.rows}
    assert len(rows) == len(table.rows) == 6 * 2
    assert rows["kd0", "pooled"] == (0.8, 0.01, 0.01, "baseline0", 0.3, 0.01, 0.01)
    assert rows["baseline0", "logits"][0:2] == (0.2, 0.01)
    assert rows["baseline0", "logits"][3] == "baseline1, baseline2"
    values = as_values(result)["runs"]["kd0"]
    assert values["cka"] == [[0.8, 0.05], [0.05, 0.2]]
    assert values["error"][0] == [0.01, 0.01]


@pytest.mark.parametrize("family", [FAMILY, [FAMILY[0], FAMILY[2]], FAMILY[:2]])
def test_few_runs_have_maps_and_no_interval(family):
    study = made_up(family)
    result = ask("cka", study, scope(study), similar(runs_of(family), level))
    assert set(result.runs) == {run for run, _ in runs_of(family)} - {"teacher"}
    assert all(np.isnan(gap.low) for gap in result.nearer_teacher)
    assert all(gap.p == 1 for gap in result.nearer_teacher)
    assert result.panels()


def test_layers_that_are_constant_are_named():
    def dead(one, two):
        return np.array([[np.nan if one == "kd0" else 0.5, 0.5], [0.5, 0.5]]) * [
            [1 if one != "kd0" else np.nan],
            [1],
        ]

    study = made_up(FAMILY)
    result = ask("cka", study, scope(study), similar(runs_of(FAMILY), dead))
    (told,) = result.findings()
    assert told.startswith("layer pooled of kd0: gives every image the same features")
    maps = [panel for panel in result.panels() if isinstance(panel, Heatmap)]
    assert maps[1].values == ((None, None), (0.5, 0.5))
    assert as_values(result)["runs"]["kd0"]["p"][0] == [None, None]

    def teacher(one, two):
        return np.array([[np.nan, 0.5], [np.nan, 0.5]])

    result = ask("cka", study, scope(study), similar(runs_of(FAMILY), teacher))
    (told,) = result.findings()
    assert told.startswith("the teacher's pooled")


def fogged(family, who):
    def answer(sight):
        seen = similar(runs_of(family), level)(sight)
        return seen | {f"refused/{who}": np.frombuffer(b"found fog", dtype=np.uint8)}

    return answer


def test_a_network_that_could_not_be_looked_at_is_left_out():
    study = made_up(SEVERAL)
    result = ask("cka", study, scope(study), fogged(SEVERAL, 4))
    assert "kd0" not in result.runs
    assert len(result.runs) == 5
    assert result.lacking() == ["kd0: found fog"]
    assert result.nearer_teacher[0].seeds == 2
    result = ask("cka", study, scope(study), fogged(SEVERAL, 1))
    assert list(result.beside["baseline1"].others) == ["baseline2"]
    assert "kd0" not in result.beside


@pytest.mark.parametrize(("family", "who"), [(SEVERAL, 0), (FAMILY[:2], 1)])
def test_without_the_teacher_or_anyone_beside_it_there_is_nothing(family, who):
    study = made_up(family)
    with pytest.raises(Refused, match="found fog"):
        ask("cka", study, scope(study), fogged(family, who))


def test_a_teacher_and_someone_beside_it_are_needed():
    for family, reason in ((FAMILY[:1], "only a teacher"), (FAMILY[1:], "needs a teacher")):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("cka", study, scope(study), similar([], level))
    study = made_up(FAMILY)
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 3"):
        ask("cka", study, scope(study, available=3), similar([], level))
    with pytest.raises(NotApplicable, match="needs at least 4 images, found 2"):
        ask("cka", study, scope(study), similar([], level), images=2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kernel": "cosine"}, "setting cka.kernel is 'cosine'; wanted linear, rbf"),
        ({"estimator": "best"}, "cka.estimator is 'best'; wanted debiased, biased"),
        ({"precision": "fp8"}, "cka.precision is 'fp8'; wanted float32, bf16"),
        ({"bandwidth": 0.0}, "cka.bandwidth is 0; wanted above 0"),
    ],
)
def test_unknown_variants_are_refused(changes, told):
    study = made_up(FAMILY)
    with pytest.raises(UsageError, match=told):
        ask("cka", study, scope(study), similar([], level), **changes)
