"""What a recipe will cost, and how the command talks; nothing is written by asking."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from toystudy import RESNET, arm, place, recipe
from toystudy import trained as trained_toy

from kdprobe.cli import cli
from kdprobe.commands.ending import ended
from kdprobe.commands.train import _spoken
from kdprobe.errors import UnknownName
from kdprobe.loading import build
from kdprobe.train.estimating import estimated
from kdprobe.train.loop import train
from kdprobe.train.memory import Need
from kdprobe.train.plan import cohorts
from kdprobe.train.recipe import settle

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


@pytest.fixture
def kdprobe(capsys):
    def call(*words):
        code = ended(partial(cli, [str(word) for word in words]))
        return code, *capsys.readouterr()

    return call


def settings(small):
    return [f"--set={text}" for text in small]


def test_a_dry_run_names_every_run_and_writes_nothing(kdprobe, small):
    code, out, err = kdprobe("train", "tiny", "--dry-run", "--device=cpu", *settings(small))
    assert (code, err) == (0, "")
    for run in ("teacher", "baseline-seed0", "kd-seed0", "feature-seed0"):
        assert run in out
    assert "checkpoints/tiny" in out
    assert re.search(r"4 runs, 24 steps, about \d+ s on cpu, \d\.\d MB on disk", out)
    assert not list(Path().iterdir())


def test_as_json_it_has_the_numbers_of_each_run(kdprobe, small, tmp_path):
    to = tmp_path / "there"
    words = ["train", "tiny", "--dry-run", "--json", f"--out={to}", *settings(small)]
    code, out, err = kdprobe(*words)
    assert (code, err) == (0, "")
    (folder, runs), *_ = json.loads(out).items()
    assert folder == str(to)
    assert [run["run"] for run in runs] == [
        "teacher",
        "baseline-seed0",
        "kd-seed0",
        "feature-seed0",
    ]
    for run in runs:
        assert (run["epochs"], run["steps"]) == (2, 6)
        assert min(run["seconds"], run["bytes"], run["memory"]) > 0
        assert run["network"].startswith("resnet8 (width=")
    assert not to.exists()


def test_a_sweep_is_a_table_a_study(kdprobe, small, tmp_path):
    file = tmp_path / "two.toml"
    file.write_text('base = "tiny"\nname = "two"\n[sweep.a]\nseeds = [0]\n[sweep.b]\nseeds = [1]\n')
    only = [text for text in settings(small) if "seeds" not in text]
    code, out, _ = kdprobe("train", file, "--dry-run", "--json", *only)
    assert code == 0
    assert list(json.loads(out)) == ["checkpoints/two/a", "checkpoints/two/b"]
    code, out, _ = kdprobe("train", file, "--dry-run", *only)
    assert "8 runs, 48 steps" in out
    assert not list(Path().iterdir())


def test_sizes_and_parameters_are_those_that_are_written(tmp_path):
    arms = {
        "one": arm("cross_entropy + dml", together=2),
        "two": arm("kd(T=4)", model={"name": "resnet8", "arguments": {"width": 4}}),
    }
    for precision in ("float32", "float16"):
        changes = [f"precision={precision}"]
        costs = {cost.run: cost for cost in estimated(recipe(arms, *changes), CPU)}
        assert list(costs) == ["teacher", "one-seed0", "two-seed0"]
        folder = trained_toy(tmp_path / precision, arms, *changes)
        for run, names in (("one-seed0", ("one-seed0", "one-seed0.1")), ("two-seed0", None)):
            written = [
                file.stat().st_size
                for name in names or (run,)
                for file in (folder / name).rglob("*.safetensors")
            ]
            heads = 12_000 * len(written)  # names and shapes, and whole numbers, are not halved
            assert costs[run].bytes <= sum(written) <= costs[run].bytes + heads
    body = build(_entry(recipe(arms))).body
    assert costs["one-seed0"].parameters == sum(weight.numel() for weight in body.parameters())


def _entry(wanted):
    return place(wanted).entry(wanted.arms["one"].model)


def test_runs_that_differ_by_seed_are_measured_once(monkeypatch):
    from kdprobe.train import estimating

    measured, real = [], estimating._measured

    def count(place, plan, run):
        measured.append(run.id)
        return real(place, plan, run)

    monkeypatch.setattr(estimating, "_measured", count)
    found = estimated(recipe({"one": arm("kd")}, "seeds=[0, 1, 2]"), CPU)
    assert measured == ["teacher", "one-seed0"]
    assert len({cost.seconds for cost in found[1:]}) == 1


def test_the_look_of_a_teacher_is_shared_among_those_who_see_it(monkeypatch):
    from kdprobe.train import estimating

    def pace(step, look):
        return estimating.Pace({(0, (True,)): step}, look, 1, 1, 0, Need(0, 0, 0))

    paces = {"teacher": pace(1.0, 0.0), "c": pace(2.0, 0.0)}
    paces |= {"a": pace(2.0, 6.0), "b": pace(2.0, 6.0)}
    monkeypatch.setattr(estimating, "_measured", lambda place, plan, run: paces[run.arm])
    arms = {"a": arm("kd"), "b": arm("kd"), "c": arm("cross_entropy")}
    found = {cost.run: cost.seconds for cost in estimated(recipe(arms), CPU)}
    assert found == {"teacher": 6, "a-seed0": 6 * 5, "b-seed0": 6 * 5, "c-seed0": 6 * 2}
    apart = estimated(recipe(arms, "at_once=1"), CPU)
    assert [cost.seconds for cost in apart] == [6, 6 * 8, 6 * 8, 6 * 2], "a look for each"


def test_arms_that_wait_for_others_are_estimated_without_their_weights():
    arms = {
        "late": arm("kd", teacher={"run": "base", "epoch": "best"}, start={"run": "base"}),
        "base": arm("cross_entropy", role="baseline"),
        "staged": arm(stages=[{"epochs": 1, "loss": "fitnet"}, {"epochs": 1, "loss": "kd"}]),
    }
    found = [cost.run for cost in estimated(recipe(arms), CPU)]
    assert found == ["teacher", "base-seed0", "staged-seed0", "late-seed0"]
    steps = sum(plan.epochs * len(plan.runs) for plan in cohorts(recipe(arms))) * 3
    assert steps == sum(cost.steps for cost in estimated(recipe(arms), CPU))


def test_an_adopted_teacher_costs_nothing_and_is_looked_at(trained):
    raw = recipe({"one": arm("kd")}).model_dump(mode="json")
    taught = settle({**raw, "teacher": {"study": str(trained)}}, title="taught")
    assert [cost.run for cost in estimated(taught, CPU)] == ["one-seed0"]


def test_what_does_not_fit_is_told_by_a_dry_run_too():
    with pytest.raises(UnknownName, match="stage9"):
        estimated(recipe({"one": arm("feature(layer='stage9')")}), CPU)


def test_asking_changes_no_random_state():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    estimated(recipe({"one": arm("kd", model={**RESNET, "transforms": ["dropout(p=0.2)"]})}), CPU)
    assert torch.equal(torch.rand(2), wanted)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (120, "2 min"), (5400, "1.5 h")]
)
def test_times_in_words(seconds, words):
    assert _spoken(seconds) == words


def test_training_talks_on_stderr_and_prints_the_folder(kdprobe, small, tmp_path):
    loud = tmp_path / "loud"
    code, out, err = kdprobe("train", "tiny", f"--out={loud}", *settings(small))
    assert (code, out) == (0, f"{loud}\n")
    assert "already finished" not in err
    code, out, err = kdprobe("train", "tiny", f"--out={loud}", *settings(small))
    assert (code, out) == (0, f"{loud}\n")
    assert "already finished: nothing to train" in err
    code, out, err = kdprobe("train", "tiny", "-q", f"--out={loud}", *settings(small))
    assert (code, out, err) == (0, f"{loud}\n", "")


def test_as_json_it_prints_the_folder_alone(kdprobe, small, tmp_path):
    to = tmp_path / "quiet"
    code, out, err = kdprobe("train", "tiny", "-q", "--json", f"--out={to}", *settings(small))
    assert (code, json.loads(out), err) == (0, {"folder": str(to)}, "")
    assert (to / "study.json").is_file()


def test_only_the_first_of_several_processes_talks(kdprobe, small, trained, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    code, out, err = kdprobe("train", "tiny", f"--out={trained}", *settings(small))
    assert (code, out, err) == (0, "", "")


def test_faults_are_told_and_nothing_is_written(kdprobe):
    code, out, err = kdprobe("train", "tiny", "--dry-run", "--set=optimizer.lrr=1")
    assert (code, out) == (2, "")
    assert "optimizer.lrr: found an unknown key" in err
    assert not list(Path().iterdir())


def test_the_default_folder_is_under_checkpoints(small):
    assert train("tiny", overrides=small) == Path("checkpoints/tiny")
