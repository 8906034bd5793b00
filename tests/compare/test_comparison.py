"""A comparison as a whole: its sides, what is aligned, what is said to be lacking or not alike."""

import json
from pathlib import Path

import pytest
from comparable import LAYERS, results

import kdprobe
from kdprobe.comparing.comparison import compare
from kdprobe.comparing.record import Comparison
from kdprobe.errors import InputError, UsageError


def names(comparison: Comparison) -> list[str]:
    return [side.name for side in comparison.sides]


def test_one_study_is_compared_by_arm_against_its_baseline():
    found = compare([results()])
    assert (found.by, found.baseline) == ("arm", "baseline")
    assert names(found) == ["teacher", "baseline", "kd", "feature"]
    (row,) = (row for row in found.rows if row.quantity == "accuracy")
    assert [len(sample.points) for sample in row.samples] == [1, 4, 4, 4]
    assert all(d.paired for d in found.differences if d.side == "kd")


def test_studies_are_compared_arm_by_arm_against_the_first():
    found = compare([results("old"), results("new")])
    assert (found.by, found.baseline, names(found)) == ("study", "old", ["old", "new"])
    at = [row.at for row in found.rows if row.quantity == "rho"]
    assert at == [
        {"arm": arm, "layer": layer} for arm in ("baseline", "kd", "feature") for layer in LAYERS
    ]


@pytest.mark.parametrize(
    ("choices", "sides"),
    [
        ({"by": "study"}, ["a", "b"]),
        ({"by": "arm"}, ["a/teacher", "a/kd", "b/teacher", "b/kd"]),
        ({"runs": ["kd-seed1"]}, ["a/kd-seed1", "b/kd-seed1"]),
        ({"runs": ["a/kd-seed0", "b/kd-seed1"]}, ["a/kd-seed0", "b/kd-seed1"]),
        ({"runs": ["kd-seed0", "kd-seed1"], "by": "study"}, ["a", "b"]),
        ({"runs": ["kd-seed0", "a/teacher"], "by": "arm"}, ["a/teacher", "a/kd", "b/kd"]),
    ],
)
def test_sides(choices, sides):
    pair = [results("a", arms=("kd",), seeds=2), results("b", arms=("kd",), seeds=2)]
    assert names(compare(pair, **choices)) == sides


def test_every_side_may_be_the_baseline():
    found = compare([results("a"), results("b", gains={"kd": 0.3}, chance=1)])
    turned = found.against("b")
    assert turned == compare(
        [results("a"), results("b", gains={"kd": 0.3}, chance=1)], baseline="b"
    )
    forth = {(d.quantity, str(d.at)): d for d in found.differences}
    back = {(d.quantity, str(d.at)): d for d in turned.differences}
    assert forth.keys() == back.keys()
    for key, one in forth.items():
        assert one.effect == pytest.approx(-back[key].effect)
        assert one.p_value == pytest.approx(back[key].p_value)
    assert turned.against("a") == found


def test_equal_names_are_told_apart_by_folder_then_by_number(tmp_path: Path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "results.json").write_text(results().to_json())
    paths = [tmp_path / "x", tmp_path / "y" / "results.json"]
    assert names(compare(paths)) == ["x", "y"]
    assert names(compare([str(path) for path in paths], names=["now", ""])) == ["now", "demo"]
    (tmp_path / "v1.5.json").write_text(results().to_json())
    assert names(compare([tmp_path / "v1.5.json", tmp_path / "x" / ".." / "y"])) == ["v1.5", "y"]
    assert names(compare([results(), results()])) == ["demo", "demo (2)"]
    assert names(compare([results(), results()], names=["a", "a"])) == ["a", "a (2)"]


def test_what_a_side_lacks_is_said_and_never_zero():
    found = compare([results("a"), results("b", without=("stability",), arms=("kd",))])
    lacking = {(m.quantity, m.side): m for m in found.missing}
    assert lacking["rho", "b"].reason == "needs masks"
    assert lacking["rho", "b"].rows == 6
    assert "no such arm" in lacking["accuracy", "b"].reason
    assert not [d for d in found.differences if d.quantity == "rho"]
    dropped = results("b").model_copy(update={"metrics": results().metrics[:1]})
    lacking = {(m.quantity, m.side): m for m in compare([results("a"), dropped]).missing}
    assert lacking["rho", "b"].reason == "metric 'stability' was not asked for"


def test_what_is_not_alike_is_said():
    alike = compare([results("a"), results("b", gains={"kd": 0.3})])
    assert alike.caveats == ()
    other = results("b", settings={"draws": 7})
    study = other.study.model_copy(update={"dataset": "cifar10", "classes": ("cat",)})
    runs = tuple(run.model_copy(update={"model": "vgg8"}) for run in study.runs)
    other = other.model_copy(
        update={
            "study": study.model_copy(update={"runs": runs}),
            "kdprobe_version": "0.2.0",
            "provenance": {"seed": "1", "device": "cuda"},
        }
    )
    told = {caveat.subject: caveat.what for caveat in compare([results("a"), other]).caveats}
    assert told["data set"] == "a: photodigits; b: cifar10"
    assert told["kdprobe version"] == "a: 0.1.0; b: 0.2.0"
    assert told["seed"] == "a: 0; b: 1"
    assert told["stability.draws"] == "a: not set; b: 7"
    assert told["networks of kd"].startswith("a: resnet8, 78042 parameters; b: vgg8")
    assert "classes" in told
    assert "device" not in told


def test_verdicts_stand_side_by_side_and_a_change_is_marked():
    found = compare([results("a", seeds=2), results("b", seeds=4)])
    told = {(v.at["arm"], v.at["layer"]): (v.outcomes, v.changed) for v in found.verdicts}
    assert told["kd", "logits"] == (("undecided", "supported"), True)
    assert told["kd", "stage3"] == (("undecided", "undecided"), False)
    by_arm = compare([results()])
    told = {v.at["layer"]: v.outcomes for v in by_arm.verdicts}
    assert told["logits"] == (None, None, "supported", "undecided")
    assert not any(v.changed for v in by_arm.verdicts)  # the baseline is judged by no claim
    assert next(v for v in by_arm.against("kd").verdicts if v.at["layer"] == "logits").changed
    assert compare([results()], by="run").verdicts == ()


def test_a_comparison_is_frozen_and_comes_back_from_its_json():
    found = compare([results("a"), results("b", chance=2, gains={"kd": 0.2})])
    assert Comparison.model_validate_json(found.to_json()) == found
    assert json.loads(found.to_json())["baseline"] == "a"
    with pytest.raises(ValueError, match="frozen"):
        found.baseline = "b"
    assert compare([results("a"), results("b", chance=2, gains={"kd": 0.2})]) == found
    assert found.quantity("rho").better == "higher"
    assert [side.name for side in found.others] == ["b"]


def test_the_face_of_the_package_compares():
    found = kdprobe.compare([results("a"), results("b", gains={"kd": -0.2})], baseline="a")
    assert found.failing("accuracy < baseline - 0.1")
    assert found.ranking
    assert found.differences


def test_too_little_to_compare_is_refused():
    with pytest.raises(UsageError, match="found 1 to compare by study; wanted two or more"):
        compare([results()], by="study")
    with pytest.raises(UsageError, match="found 1 to compare by run"):
        compare([results()], runs=["teacher"])
    bare = results().model_copy(update={"metrics": ()})
    with pytest.raises(UsageError, match="found no number of any run"):
        compare([bare])


def test_names_that_do_not_exist_are_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'baseline'"):
        compare([results()], baseline="basline")
    with pytest.raises(UsageError, match="did you mean 'kd-seed1'"):
        compare([results()], runs=["kd_seed1", "teacher"])


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="found no results"):
        compare([tmp_path, tmp_path])
