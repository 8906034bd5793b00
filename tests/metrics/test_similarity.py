"""Likeness to the teacher: planted relations are found, chance is told, and the page says it."""

import numpy as np
import pytest
from clouds import gaussian, rotation, seen, shapes
from stage import FAMILY, LAYERS, ask, made_up, scope

from kdprobe.errors import NotApplicable, Refused, UsageError
from kdprobe.metrics.company import Company, by_chance
from kdprobe.metrics.contract import METRICS, as_values, conclude
from kdprobe.metrics.geometry import SHUFFLES, chance, shuffles
from kdprobe.metrics.measures import MEASURES, Choice
from kdprobe.panels import Forest, Heatmap, Table

SEEDS = (0, 1, 2)
STUDY = made_up(
    [
        FAMILY[0],
        *(("baseline", "baseline", s) for s in SEEDS),
        *(("kd", "student", s) for s in SEEDS),
    ]
)
TEACHER = gaussian(60, 5, 100)
ORDERS = shuffles(60, 19, chance(scope(STUDY), SHUFFLES))
FEW = {"k": 3, "permutations": 19, "half_samples": 6}


def features(run: str) -> np.ndarray:
    """Students turn what the teacher shows and add a little; baselines know nothing of it."""
    if run == "teacher":
        return TEACHER
    seed = int(run[-1])
    noise = gaussian(60, 5, seed + 10 * run.startswith("kd"))
    return TEACHER @ rotation(5, seed) + 0.3 * noise if run.startswith("kd") else noise


def answer(sight):
    assert sight.settings == (("layers", LAYERS),)
    assert sight.subjects[0].epoch == 2
    return seen(features(sight.subjects[0].run), np.tanh(features(sight.subjects[0].run)))


@pytest.fixture(scope="module")
def result():
    return ask("similarity", STUDY, scope(STUDY), answer, images=60, **FEW)


def test_a_student_of_the_teacher_is_alike_and_a_stranger_is_as_alike_as_chance(result):
    assert result.images == 60
    assert result.measures == tuple(MEASURES)
    for u, key in enumerate(result.measures):
        kd, baseline = (result.runs[run].similarity[u] for run in ("kd1", "baseline1"))
        assert (kd > baseline + 0.2).all(), key
        at = result.chance["kd"]
        assert at.run == "kd0"
        np.testing.assert_allclose(at.p_value[u], 1 / 20)
        gap = result.runs["baseline0"].similarity[u] - result.chance["baseline"].level[u]
        assert (np.abs(gap) < 0.15).all(), key
        assert (result.chance["baseline"].p_value[u] > 0.05).all(), key


def test_values_are_the_measures_of_the_pairs_one_by_one(result):
    choice = Choice(k=3)
    for u, key in enumerate(result.measures):
        measure = MEASURES[key]
        sides = [measure.describe(shapes(features(run)), choice) for run in ("teacher", "kd2")]
        assert result.runs["kd2"].similarity[u, 0] == pytest.approx(measure.compare(*sides))
        pair = [measure.describe(shapes(features(run)), choice) for run in ("kd0", "baseline0")]
        other = [measure.describe(shapes(features(f"kd{s}")), choice) for s in SEEDS]
        three = [measure.compare(other[a], other[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert result.between_seeds["kd"][u, 0] == pytest.approx(np.mean(three))
        mean = np.mean([result.everyone[u, 4 + s, 1 + s] for s in SEEDS])
        assert result.to_baseline["kd"][u, 0] == pytest.approx(mean)
        drawn = by_chance(measure, sides[0], other[0], ORDERS)
        assert result.chance["kd"].level[u, 0] == pytest.approx(drawn.mean())
        assert result.everyone[u, 4, 1] == pytest.approx(measure.compare(*pair))
        assert result.everyone[u, 0, 6] == pytest.approx(measure.compare(*sides))


def test_errors_are_as_large_as_other_images_would_change_the_value():
    def company(seed: int) -> Company:
        x = gaussian(60, 5, seed)
        y = x @ rotation(5, 0) + 0.8 * gaussian(60, 5, seed + 1000)
        one, two = (shapes(side, side) for side in (x, y))
        return Company(one, type(two)(two.grams[None], two.norms[None]), tuple(told), Choice(k=5))

    told = [MEASURES[key] for key in ("procrustes", "rsa", "knn", "svcca", "pwcca")]
    whole = np.arange(60)
    truth = np.std([company(s).with_the_teacher(whole)[:, 0, 0] for s in range(40)], axis=0)
    study = made_up(FAMILY)
    pair = company(0)
    sides = {"teacher": pair.teacher, "kd0": pair.learners.at(0), "baseline0": pair.learners.at(0)}

    def told_of(sight):
        at = sides[sight.subjects[0].run]
        return {"grams": at.grams, "norms": at.norms}

    found = ask(
        "similarity", study, scope(study), told_of, images=60, k=5, half_samples=200, permutations=1
    )
    order = [list(found.measures).index(measure.key) for measure in told]
    error = found.runs["kd0"].error[order, 0]
    assert (error > 0.5 * truth).all()
    assert (error < 2 * truth).all()


def test_the_page_shows_effects_before_the_logits_and_who_is_alike_whom(result):
    by_layer, effects, company, definitions, table, by_chance = result.panels()
    assert isinstance(by_layer, Heatmap)
    assert by_layer.rows[:2] == ("SVCCA · baseline", "SVCCA · kd")
    mean = np.mean([result.runs[f"kd{s}"].similarity[0] for s in SEEDS], axis=0)
    np.testing.assert_allclose(by_layer.values[1], mean)
    assert isinstance(effects, Forest)
    assert "pooled" in effects.title
    assert len(effects.effects) == len(MEASURES)
    assert all(effect.low > 0 for effect in effects.effects)
    assert company.rows == ("teacher", *result.runs)
    assert company.values[0][0] == 1
    assert isinstance(definitions, Table)
    assert definitions.columns[-2:] == ("translation", "linear")
    assert [row[-2] for row in definitions.rows] == ["yes", "yes", "yes", "yes", "no"]
    assert len(table.rows) == len(result.runs) * len(LAYERS)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [row[:2] for row in by_chance.rows][:2] == [
        ("baseline", "pooled"),
        ("baseline", "logits"),
    ]
    assert not result.findings()
    assert not result.lacking()


def test_measures_that_contradict_each_other_deserve_a_sentence(result):
    from dataclasses import replace

    turned = [{arm: replace(d, low=-d.high, high=-d.low) for arm, d in result.effects[0].items()}]
    (told,) = replace(result, effects=[*turned, *result.effects[1:]]).findings()
    assert told.startswith("at pooled, kd is nearer to the teacher than the baseline by PWCCA and")
    assert told.endswith("farther by SVCCA")


def test_a_constant_layer_has_no_likeness_and_is_named():
    def with_a_dead_layer(sight):
        found = answer(sight)
        if sight.subjects[0].run in ("kd0", "kd1"):
            found["grams"][1] = 0
        return found

    result = ask("similarity", STUDY, scope(STUDY), with_a_dead_layer, images=60, **FEW)
    assert np.isnan(result.runs["kd1"].similarity[:, 1]).all()
    assert np.isnan(result.runs["kd1"].error[:, 1]).all()
    assert not np.isnan(result.runs["kd1"].similarity[:, 0]).any()
    assert not np.isnan(result.runs["kd2"].similarity).any()
    told = result.chance["kd"]
    assert np.isnan([told.level[:, 1], told.p_value[:, 1]]).all()
    assert not np.isnan([told.level[:, 0], told.p_value[:, 0]]).any()
    assert result.constant == ("logits of kd0", "logits of kd1")
    assert "logits of kd1 does not vary" in result.panels()[0].how_to_read
    assert None in as_values(result)["runs"]["kd1"]["similarity"][0]


def test_a_run_that_cannot_be_seen_is_left_out_and_told():
    asked = METRICS["similarity"].ask(STUDY, scope(STUDY), images=60, **FEW)

    class Seen(dict):
        def __missing__(self, sight):
            raise Refused("kd1 has diverged")

    sights = next(asked)
    found = {sight: answer(sight) for sight in sights if sight.subjects[0].run != "kd1"}
    result = conclude(asked, Seen(found))
    assert "kd1" not in result.runs
    assert result.lacking() == ("kd1 has diverged",)
    assert result.panels()[1].effects[0].low is None, "two pairs have no interval"


def test_without_a_pair_there_is_no_forest():
    study = made_up(FAMILY[:2])
    result = ask("similarity", study, scope(study), answer, images=60, **FEW)
    assert not any(isinstance(panel, Forest) for panel in result.panels())
    assert result.to_baseline == {}


def test_some_measures_are_enough():
    result = ask(
        "similarity", STUDY, scope(STUDY), answer, images=60, measures=("knn", "rsa"), **FEW
    )
    assert result.measures == ("knn", "rsa")
    assert result.panels()[1 + 1].how_to_read.startswith("mutual k-NN")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measures": ("svca",)}, r"has 'svca'; did you mean 'svcca'\? wanted svcca, pwcca"),
        ({"variance": 0.0}, "variance is 0; wanted above 0"),
        ({"half_samples": 1}, "half_samples is 1; wanted at least 2"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        ask("similarity", STUDY, scope(STUDY), answer, **settings)


def test_too_few_images_or_networks_have_no_answer():
    with pytest.raises(
        NotApplicable, match=r"needs at least 24 images .* found 20; add test images or lower"
    ):
        ask("similarity", STUDY, scope(STUDY, available=20), answer)
    for family, reason in ((FAMILY[:1], "only a teacher"), (FAMILY[1:], "needs a teacher")):
        study = made_up(family)
        with pytest.raises(NotApplicable, match=reason):
            ask("similarity", study, scope(study), answer)
