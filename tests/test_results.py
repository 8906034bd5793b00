"""results.json: rounded, without NaN, read back as it was written, refused when it is another's."""

import json

import pytest
from plain import metric_report

from kdprobe.errors import InputError
from kdprobe.panels import Bytes, Lines, Series
from kdprobe.results import (
    Estimate,
    Results,
    RunSummary,
    StudySummary,
    Verdict,
    read_results,
)

NAN, INF = float("nan"), float("inf")


def found(**values) -> Results:
    run = RunSummary(
        id="s", role="student", arm="kd", seed=0, model="m", parameters=3, epochs=(0, 1), digest="d"
    )
    line = Series(name="kd", x=(0, 1), y=(NAN, 0.123456789), role="student")
    report = metric_report(
        "m",
        title="é λ <b>",
        settings={"b": 0.2},
        values=values,
        panels=(Lines(title="t", x_label="x", y_label="y", series=(line,)),),
    )
    return Results(
        kdprobe_version="0",
        study=StudySummary(name="s", dataset="d", classes=("a", "b"), runs=(run,)),
        metrics=(report,),
    )


def test_floats_keep_six_significant_digits():
    told = found(a=0.123456789, b=123456789.0, c=1.23456789e-12, d=[2 / 3, {"e": -1e9 / 7}])
    values = json.loads(told.to_json())["metrics"][0]["values"]
    assert values["a"] == 0.123457
    assert values["b"] == 123457000
    assert values["c"] == 1.23457e-12
    assert values["d"] == [0.666667, {"e": -142857000}]
    for written, exact in ((values["a"], 0.123456789), (values["d"][0], 2 / 3)):
        assert written == pytest.approx(exact, rel=5e-6)


def test_whole_numbers_truths_and_words_stay():
    told = found(n=123456789, yes=True, word="0.123456789", none=None)
    values = json.loads(told.to_json())["metrics"][0]["values"]
    assert values == {"n": 123456789, "yes": True, "word": "0.123456789", "none": None}
    assert values["yes"] is True


@pytest.mark.parametrize("number", [NAN, INF, -INF])
def test_what_is_no_number_is_null(number):
    told = found(a=number, b=[1.0, number])
    text = told.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    values = json.loads(text)["metrics"][0]["values"]
    assert values == {"a": None, "b": [1, None]}
    assert told.settled().metrics[0].panels[0].series[0].y == (None, 0.123457)


def test_settling_twice_changes_nothing():
    told = found(a=1 / 3, b=[NAN, 1e-30]).settled()
    assert told.settled() == told
    assert told.to_json() == told.settled().to_json()


def test_written_and_read_again(tmp_path):
    told = found(a=1 / 3).settled()
    (tmp_path / "results.json").write_text(told.to_json(), encoding="utf-8")
    assert read_results(tmp_path) == told
    assert read_results(tmp_path / "results.json") == told
    assert told.metrics[0].title in (tmp_path / "results.json").read_text("utf-8")


def test_a_metric_is_found_by_its_key():
    assert found().metric("m") is not None
    assert found().metric("other") is None


def test_there_is_no_file(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(InputError, match=r"found no results at .*; wanted .*; run 'kdprobe a"):
            read_results(place)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"schema_version": 2}, "at schema_version"),
        ({"study": None}, "at study"),
        ({"colour": "red"}, "at colour"),
        ({"metrics": [{"key": "m"}]}, r"at metrics\.0\.title"),
    ],
)
def test_another_schema_is_refused_by_the_place_of_its_fault(tmp_path, change, where):
    data = {**json.loads(found().to_json()), **change}
    (tmp_path / "results.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=f"no.* a results file of schema version 1: {where}: .*;"):
        read_results(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"hello", b"\x80\x81\xff"])
def test_what_is_no_results_file_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(InputError, match="results"):
        read_results(tmp_path)


def test_verdicts_and_maps_survive_the_file(tmp_path):
    estimate = Estimate(
        quantity="ρ",
        effect=0.1,
        low=None,
        high=None,
        p_value=None,
        wanted="higher",
        outcome="undecided",
    )
    verdict = Verdict(
        claim="H3",
        statement="s",
        source="s",
        arm="kd",
        layer="logits",
        outcome="undecided",
        reason="r",
        estimates=(estimate,),
        robust=None,
    )
    told = found().model_copy(update={"verdicts": (verdict,)})
    again = Results.model_validate_json(told.to_json())
    assert again.verdicts == (verdict,)
    packed = Bytes.pack([[1, 2], [3, 250]])
    assert Bytes.model_validate_json(packed.model_dump_json()) == packed
