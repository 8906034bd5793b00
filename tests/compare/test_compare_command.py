"""`kdprobe compare`: what it prints and writes, and with which code it ends."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from comparable import results

from kdprobe.cli import cli
from kdprobe.commands.compare import default_folder
from kdprobe.commands.ending import ended
from kdprobe.comparing.comparison import compare
from kdprobe.comparing.record import Comparison
from kdprobe.errors import GATE_FAILED, INPUT, OK, USAGE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports: `old`, and `new` in which kd is worse."""
    where = tmp_path_factory.mktemp("reports")
    for name, of in {
        "old": results("demo"),
        "new": results("demo", gains={"kd": -0.1}, chance=1),
    }.items():
        (where / name).mkdir()
        (where / name / "results.json").write_text(of.to_json())
    return where


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Run ``kdprobe compare ...`` beside the reports: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(folder / name)

    def go(*words: str) -> tuple[int, str, str]:
        code = ended(lambda **more: cli(["compare", *words], **more))
        return code, *capsys.readouterr()

    return go


def test_two_reports_are_compared_and_written(run, tmp_path):
    code, out, err = run("old", "new")
    assert code == OK
    assert "Decided differences" in out
    assert "worse" in out
    file = tmp_path / "reports" / "compare-old-new" / "compare.html"
    assert f"written: {file.relative_to(tmp_path)}" in err
    assert file.read_text().startswith("<!DOCTYPE html>")
    found = Comparison.model_validate_json((file.parent / "compare.json").read_text())
    assert found == compare([tmp_path / "old", tmp_path / "new"])
    with (file.parent / "tables" / "differences.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(found.differences)
    assert {row["baseline"] for row in rows} == {"old"}


def test_a_failed_gate_ends_with_1_and_names_every_place(run):
    code, out, err = run("old", "new", "--fail-if", "rho < baseline - 0.05", "--no-html")
    assert code == GATE_FAILED
    assert "gate FAILED: rho < baseline - 0.05 (judged at 6 places)" in err
    assert err.count("failing:") == 2
    assert "new at arm kd, layer logits" in err
    assert "gate" not in out


def test_gates_that_pass_end_with_0(run):
    rules = ("--fail-if", "accuracy < 0.1", "--fail-if", "rho < baseline - 0.9")
    code, _, err = run("old", "new", *rules, "--no-html")
    assert (code, err.count("gate passed")) == (OK, 2)


def test_one_failing_gate_of_several_is_enough(run):
    rules = ("--fail-if", "accuracy < 0.1", "--fail-if", "accuracy < baseline - 0.05")
    assert run("old", "new", *rules, "--no-html")[0] == GATE_FAILED


def test_confident_gates_say_what_is_undecided(run):
    rule = "accuracy[arm=baseline] < baseline + 0.002"
    assert run("old", "new", "--fail-if", rule, "--no-html")[0] == GATE_FAILED
    code, _, err = run("old", "new", "--fail-if", rule, "--no-html", "--confident")
    assert (code, err.count("undecided: ")) == (OK, 1)


def test_json_is_the_whole_comparison_with_its_gates(run):
    code, out, _ = run(
        "old", "new", "--json", "--no-html", "--fail-if", "accuracy < baseline - 0.05"
    )
    data = json.loads(out)
    (gate,) = data.pop("gates")
    assert Comparison.model_validate(data).baseline == "old"
    assert (code, gate["passed"], len(gate["failing"])) == (GATE_FAILED, False, 1)


def test_a_list_judges_no_gate(run):
    code, out, err = run("old", "new", "--list", "--fail-if", "accuracy < baseline")
    assert (code, out) == (USAGE, "")
    assert "--list beside --fail-if" in err


def test_sides_can_be_named_and_chosen(run):
    code, out, err = run("before=old", "after=new", "--baseline", "after", "-q", "--no-html")
    assert code == OK
    assert "after (baseline)" in out
    assert err == ""
    code, out, _ = run("old", "--by", "arm", "--no-html")
    assert "baseline (baseline)" in out
    code, out, _ = run("old", "--runs", "kd-seed0, kd-seed1", "--no-html")
    assert "kd-seed0 (baseline)" in out


def test_a_folder_with_a_sign_in_its_name_is_a_path(run, tmp_path, folder):
    (tmp_path / "T=4").symlink_to(folder / "new")
    _, out, _ = run("old", "T=4", "--no-html", "--json")
    assert [side["name"] for side in json.loads(out)["sides"]] == ["old", "T=4"]


def test_list_names_what_rules_may_name(run, tmp_path):
    code, out, _ = run("old", "--list")
    assert code == OK
    assert "layer: stage3, logits" in out
    data = {entry["name"]: entry for entry in json.loads(run("old", "new", "--list", "--json")[1])}
    assert data["rho"]["places"]["arm"] == ["baseline", "kd", "feature"]
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("old", "new", "--fail-if", "roh < 1"), USAGE, "did you mean 'rho'"),
        (("old", "new", "--fail-if", "rho <"), USAGE, "cannot be read: at position 6"),
        (("old", "new", "--baseline", "odl"), USAGE, "did you mean 'old'"),
        (("old", "--by", "study"), USAGE, "wanted two or more"),
        (("old", "--runs", "kd-sed0"), USAGE, "did you mean 'kd-seed0'"),
        (("old", "nothing"), INPUT, "found no results"),
        ((), USAGE, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said(run, tmp_path, words, code, said):
    found = run(*words)
    assert found[0] == code
    assert said in found[2]
    assert not (tmp_path / "reports").exists()


def test_a_folder_that_cannot_be_written_is_an_input_error(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run("old", "new", "--out", str(tmp_path / "file" / "inside"))
    assert code == INPUT
    assert "cannot write" in err


def test_names_of_studies_make_a_plain_folder():
    odd = compare([results("../../etc"), results("a b/c"), *(results(f"s{i}") for i in range(3))])
    assert default_folder(odd) == Path("reports/compare-etc-a-b-c-s0-and-2")
    assert default_folder(compare([results("…"), results("/")])) == Path("reports/compare-studies")


def test_help_is_in_the_list_of_verbs():
    assert "compare" in CliRunner().invoke(cli, ["--help"]).output
