"""TCAV of made-up slopes: what is planted is told from chance, and compared with the teacher."""

from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image
from stage import ask, made_up, scope

from kdprobe.errors import InputError, NotApplicable, Refused, UsageError
from kdprobe.metrics.concept_vectors import _p_value
from kdprobe.metrics.contract import METRICS, conclude
from kdprobe.panels import Forest, Heatmap, Table
from kdprobe.probes.contract import Sight

RUNS = [("teacher", "teacher", None)] + [
    (arm, role, seed)
    for arm, role in (("baseline", "baseline"), ("kd", "student"))
    for seed in range(3)
]
SETS, N = 20, 40


def coins(share: float, *key: int | str) -> np.ndarray:
    seed = [sum(map(ord, part)) if isinstance(part, str) else part for part in key]
    return (np.random.default_rng(seed).random((SETS, N)) < share).astype(np.float32)


def seen(wanted: Sight) -> Mapping[str, np.ndarray]:
    """Teacher and students want the object on the same images, the baseline on others."""
    run = wanted.subjects[0].run
    found = {"labels": np.zeros(N, int)}
    for concept, share in (("object", 0.8), ("background", 0.5)):
        key = ("teacher" if run[0] in "tk" else run, concept)
        place = f"pooled/{concept}"
        found[f"toward/{place}"] = coins(share, *key)
        found[f"by_chance/{place}"] = coins(0.5, run, concept, 1)
        found[f"accuracy/{place}"] = np.full(SETS, 0.9) + np.arange(SETS) / 1000
        found[f"accuracy_by_chance/{place}"] = np.full(SETS, 0.5)
    return found


def measured(**more):
    study = made_up(RUNS)
    return ask("concept_vectors", study, scope(study), seen, **more)


def test_what_is_planted_is_told_from_chance():
    at = measured().runs["kd0"]["pooled"]
    assert at["object"].score == pytest.approx(0.8, abs=0.03)
    assert at["object"].p_value < 0.01
    assert at["background"].score == pytest.approx(0.5, abs=0.04)
    assert at["background"].p_value > 0.05
    assert at["object"].by_chance == pytest.approx(0.5, abs=0.04)
    assert at["object"].spread == pytest.approx((0.8 * 0.2 / N) ** 0.5, rel=0.4)
    assert at["object"].accuracy == pytest.approx(0.9095)
    assert at["object"].accuracy_by_chance == 0.5


def test_slopes_are_compared_with_the_teachers_image_by_image():
    result = measured()
    student, baseline = (result.runs[run]["pooled"]["object"] for run in ("kd1", "baseline1"))
    assert student.like_teacher == 1.0
    assert student.like_teacher_error == 0.0
    assert baseline.like_teacher == pytest.approx(0.8**2 + 0.2**2, abs=0.04)
    assert student.like_teacher_by_chance == pytest.approx(0.5, abs=0.05)
    assert result.runs["teacher"]["pooled"]["object"].like_teacher is None
    gained = result.like_teacher["kd pooled object"]
    assert gained.effect == pytest.approx(1 - 0.68, abs=0.03)
    assert (gained.seeds, gained.images) == (3, N)
    assert gained.low > 0


def test_panels():
    result = measured()
    heatmap, forest, table = result.panels()
    assert [type(panel) for panel in (heatmap, forest, table)] == [Heatmap, Forest, Table]
    assert heatmap.rows == ("teacher", "baseline", "kd", "random concepts")
    assert heatmap.columns == ("pooled object", "pooled background")
    assert heatmap.values[2][0] == pytest.approx(0.8, abs=0.03)
    assert heatmap.values[3][0] == pytest.approx(0.5, abs=0.03)
    assert len(table.rows) == 7 * 2
    assert (result.findings(), result.lacking()) == ([], [])


def test_without_a_teacher_the_scores_are_left():
    study = made_up(RUNS[1:])
    result = ask("concept_vectors", study, scope(study), seen)
    assert result.like_teacher == {}
    assert result.runs["kd0"]["pooled"]["object"].like_teacher is None
    assert [type(panel) for panel in result.panels()] == [Heatmap, Table]


def test_silent_layers_and_networks_that_could_not_be_seen_are_told():
    study = made_up(RUNS)
    inquiry = METRICS["concept_vectors"].ask(study, scope(study, layers=("conv", "pooled")))

    class Looks(dict):
        def __getitem__(self, wanted):
            if wanted.subjects[0].run == "kd2":
                raise Refused("no such layer")
            found = dict(seen(wanted))
            for key in [key for key in found if "/" in key]:
                if wanted.subjects[0].run != "kd1":
                    found[key.replace("pooled", "conv")] = found[key]
            return found

    result = conclude(inquiry, Looks((s, None) for s in next(inquiry)))
    assert result.findings() == [
        "conv of kd1 answers to all examples alike; it has no concept vector"
    ]
    assert result.lacking() == ["no such layer"]
    assert result.like_teacher["kd conv object"].seeds == 1
    assert result.like_teacher["kd pooled object"].seeds == 2


def test_the_permutation_test_is_fair_and_never_zero():
    chance = np.random.default_rng(0)
    p_values = [_p_value(*chance.normal(size=(2, 10))) for _ in range(300)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert _p_value(np.ones(5), np.ones(5)) == 1.0
    assert 0 < _p_value(np.ones(9), np.zeros(9)) < 0.002
    few = _p_value(np.ones(2), np.zeros(2))
    assert few == pytest.approx(1 / 3, abs=0.03), "two of six orders are as far apart"


def test_examples_leave_images_to_be_looked_at():
    def asked(**more):
        study = made_up(RUNS)
        return next(METRICS["concept_vectors"].ask(study, scope(study, **more)))[0]

    told = [asked(available=count) for count in (1000, 100)]
    assert [(s.images, dict(s.settings)["examples"]) for s in told] == [(160, 96), (100, 50)]
    assert dict(told[0].settings)["layers"] == ("pooled",), "not the logits"


def test_pictures_are_part_of_the_question(tmp_path):
    (tmp_path / "red").mkdir()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "red" / "a.png")

    def asked():
        study = made_up(RUNS)
        sights = METRICS["concept_vectors"].ask(study, scope(study), folders=str(tmp_path))
        return dict(next(sights)[0].settings)

    before = asked()
    assert (before["concepts"], before["folder"]) == ("folders", str(tmp_path))
    Image.new("RGB", (4, 4), (0, 255, 0)).save(tmp_path / "red" / "a.png")
    assert asked()["content"] != before["content"]
    with pytest.raises(InputError, match="found no folder"):
        measured(folders=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"concepts": "part"}, "did you mean 'parts'"),
        ({"concepts": "folders"}, "no folder; wanted concept_vectors.folders=DIR"),
        ({"of": "c"}, "wanted a class of the data set: a, b"),
    ],
)
def test_unknown_choices_are_refused(more, told):
    with pytest.raises(UsageError, match=told):
        measured(**more)


def test_what_has_no_meaning_is_told():
    study = made_up(RUNS)
    for changes, told in (
        ({"layers": ("logits",)}, "needs a hidden layer"),
        ({"has_masks": False}, "'noise' has no object masks; --set concept_vectors.folders=DIR"),
        ({"available": 15}, "needs 16 images and 4 random sets; found 15 and 20"),
    ):
        with pytest.raises(NotApplicable, match=told):
            ask("concept_vectors", study, scope(study, **changes), seen)
    with pytest.raises(NotApplicable, match="found 160 and 3"):
        measured(sets=3)
