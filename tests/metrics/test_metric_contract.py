"""What a metric is: its label, its settings, and how it asks once."""

from dataclasses import dataclass

import numpy as np
import pytest
from stage import FAMILY, made_up, scope

from kdprobe.errors import NotApplicable, UnknownName, UsageError
from kdprobe.metrics.contract import (
    METRICS,
    arm_series,
    as_values,
    by_arm,
    conclude,
    followed,
    metric,
    page_only,
    roles_of,
    the_teacher,
)
from kdprobe.metrics.settings import must_be_like
from kdprobe.probes.contract import sight


@dataclass(frozen=True)
class Inner:
    values: np.ndarray
    none: float | None = None


@dataclass(frozen=True)
class Outer:
    share: float
    whole: np.float32
    by_run: dict[str, Inner]
    several: list[Inner]
    drawn: str = page_only()

    def panels(self):
        return []


def test_values_are_plain_and_undefined_numbers_are_null():
    inner = Inner(np.array([[1.5, np.nan], [np.inf, -2.0]]))
    result = Outer(float("nan"), np.float32(0.5), {"a": inner}, [Inner(np.arange(2))], "picture")
    assert as_values(result) == {
        "share": None,
        "whole": 0.5,
        "by_run": {"a": {"values": [[1.5, None], [None, -2.0]], "none": None}},
        "several": [{"values": [0, 1], "none": None}],
    }


@pytest.fixture
def dummy():
    @metric(
        "dummy",
        title="Dummy",
        question="For this test?",
        source="this test",
        better="higher",
        range=(0.0, 1.0),
        place=99,
    )
    def ask(study, scope, *, count: int = 3, share: float = 0.5, names: tuple = ("a", "b")):
        """Nothing at all."""
        seen = yield [sight("pictures", grid=count)]
        return Outer(share, np.float32(seen), {}, [], "")

    yield METRICS["dummy"]
    del METRICS._entries["dummy"]


def test_a_metric_is_its_label_its_docstring_and_its_keywords(dummy):
    assert dummy.definition == "Nothing at all."
    assert dummy.settings == {"count": 3, "share": 0.5, "names": ("a", "b")}
    assert dummy.with_defaults({}) == dummy.settings
    assert dummy.with_defaults({"share": 1})["share"] == 1, "a whole number is a number"
    assert dummy.with_defaults({"names": ["x"]})["names"] == ["x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cuont": 4}, r"metric 'dummy' has no setting 'cuont'; did you mean 'count'\? Known: c"),
        ({"#": 4}, r"no setting '#'\. Known: count, share, names"),
        ({"count": 0}, "setting dummy.count is 0; wanted a whole number of at least 1, such as 3"),
        ({"count": 2.0}, "dummy.count is 2.0; wanted a whole number"),
        ({"count": True}, "dummy.count is True"),
        ({"share": "much"}, "dummy.share is 'much'; wanted a finite number, such as 0.5"),
        ({"share": float("nan")}, "dummy.share is nan"),
        ({"share": True}, "dummy.share is True"),
        ({"names": []}, "dummy.names is \\[\\]; wanted a list"),
        ({"names": "ab"}, "dummy.names is 'ab'; wanted a list"),
        ({"names": [1]}, "dummy.names is \\[1\\]"),
    ],
)
def test_settings_of_another_name_or_kind_are_refused(dummy, changes, message):
    with pytest.raises(UsageError, match=message):
        dummy.with_defaults(changes)


def test_words_are_like_words():
    must_be_like("x", "linear", "rbf")
    with pytest.raises(UsageError, match="setting x is 3; wanted something like 'rbf'"):
        must_be_like("x", 3, "rbf")


def test_yes_and_no_are_no_numbers():
    must_be_like("x", True, False)
    for value in (1, 0.0, "true", None):
        with pytest.raises(UsageError, match="wanted true or false"):
            must_be_like("x", value, False)


def test_a_metric_without_settings_says_so():
    with pytest.raises(UsageError, match=r"'stability' has no setting 'b'\. Known: none"):
        METRICS["stability"].with_defaults({"b": 1.0})


def test_a_metric_asks_once(dummy):
    study = made_up(FAMILY)
    inquiry = dummy.ask(study, scope(study))
    assert [wanted.probe for wanted in next(inquiry)] == ["pictures"]
    assert conclude(inquiry, 0.25).whole == 0.25

    def greedy():
        yield []
        yield []

    inquiry = greedy()
    next(inquiry)
    with pytest.raises(RuntimeError, match="a metric asks once"):
        conclude(inquiry, {})


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="no metric is called 'concept'; did you mean 'concepts'"):
        METRICS["concept"]


def test_runs_are_grouped_by_arm_and_role():
    study = made_up([*FAMILY, ("kd", "student", 1)])
    roles = roles_of(study.runs)
    assert by_arm(roles, ["kd1", "baseline0", "kd0"]) == {
        ("kd", "student"): ["kd1", "kd0"],
        ("baseline", "baseline"): ["baseline0"],
    }
    rows = {"kd0": np.array([1.0, 2.0]), "kd1": np.array([3.0, 6.0])}
    (line,) = arm_series(roles, [0, 5], rows)
    assert (line.name, line.role, line.x) == ("kd", "student", (0, 5))
    assert (line.y, line.low, line.high) == ((2, 4), (1, 2), (3, 6))


def test_who_is_compared_with_whom():
    study = made_up(FAMILY)
    assert the_teacher(study).id == "teacher"
    assert [run.id for run in followed(study)] == ["baseline0", "kd0"]
    with pytest.raises(NotApplicable, match="needs a teacher; this study has none"):
        the_teacher(made_up(FAMILY[1:]))


AS_REFERENCE = {"barrier", "basins", "distilled"}  # where the baseline is the students' other end


@pytest.mark.parametrize("key", list(METRICS))
def test_controls_are_looked_at_wherever_baselines_are(key):
    study = made_up([*FAMILY, ("smooth", "control", 0)])
    try:
        asked = next(METRICS[key].ask(study, scope(study)))
    except NotApplicable as answer:
        pytest.skip(answer.reason)
    seen = {(one.probe, at.run, at.epoch) for one in asked for at in one.subjects}
    wanted = {(probe, "smooth0", epoch) for probe, run, epoch in seen if run == "baseline0"}
    assert key in AS_REFERENCE or wanted <= seen
