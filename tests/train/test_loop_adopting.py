"""A teacher of another study is copied, never trained, and must answer for the same classes."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from kdprobe.errors import InputError, RecipeError
from kdprobe.manifest import NetworkEntry
from kdprobe.study import load_study
from kdprobe.train import adopting
from kdprobe.train.loop import train
from kdprobe.train.recipe import load_recipe, settle

ARMS = ["seeds=[0]", "arms.kd.model.arguments={width = 2}"]


def taught(study, tmp_path, **teacher):
    """A study of one arm whose teacher is taken over."""
    raw = load_recipe("tiny", ["data.arguments={train = 40, test = 16}"]).model_dump(mode="json")
    arms = {"kd": raw["arms"]["kd"], "baseline": raw["arms"]["baseline"]}
    told = {"study": str(study), **teacher}
    settled = settle({**raw, "teacher": told, "arms": arms}, ARMS, title="taught")
    return train(settled, out=tmp_path / "new")


def test_its_checkpoints_are_copied_and_it_teaches(trained, tmp_path):
    folder = taught(trained, tmp_path)
    study = load_study(folder)
    assert study.teacher is not None
    assert study.teacher.epochs == (0, 1, 2)
    assert study.teacher.entry.network == load_study(trained).teacher.entry.network
    for epoch in (0, 2):
        name = f"teacher/epoch-000{epoch}.safetensors"
        ours, theirs = load_file(folder / name), load_file(trained / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    record = json.loads((folder / "kd-seed0" / "run.json").read_text())
    assert record["teacher"]["file"] == "teacher/epoch-0002.safetensors"
    taken = json.loads((folder / "teacher" / "run.json").read_text())["taken_from"]
    assert (taken["study"], taken["run"]) == (str(trained), "teacher")
    assert not (folder / "teacher" / "metrics.jsonl").exists(), "it is not trained"


def test_another_run_and_another_epoch_of_it_can_teach(trained, tmp_path):
    raw = load_recipe("tiny", ["data.arguments={train = 40, test = 16}"]).model_dump(mode="json")
    told = {"study": str(trained), "run": "baseline-seed0"}
    early = "arms.kd.teacher={epoch = 1}"
    settled = settle({**raw, "teacher": told}, [*ARMS, early], title="taught")
    folder = train(settled, out=tmp_path)
    record = json.loads((folder / "kd-seed0" / "run.json").read_text())
    assert record["teacher"]["file"] == "teacher/epoch-0001.safetensors"


def test_a_run_that_is_not_there_is_refused(trained, tmp_path):
    with pytest.raises(
        InputError, match=r"no run 'nobody' in .*wanted one of teacher, baseline-se"
    ):
        taught(trained, tmp_path, run="nobody")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 7}, r"has 7 classes and the data 10; wanted as many"),
        ({"classes": tuple("9876543210")}, r"answers for 9, 8, 7, .*the same classes"),
        ({"name": "", "factory": "mine:net"}, r"made by code of your own \(mine:net\)"),
    ],
)
def test_a_teacher_that_cannot_teach_here_is_refused(
    trained, tmp_path, monkeypatch, changes, words
):
    run = load_study(trained).teacher
    network = NetworkEntry.model_validate({**run.entry.network.model_dump(), **changes})
    entry = run.entry.model_copy(update={"network": network})
    monkeypatch.setattr(adopting, "taken_run", lambda plan: replace(run, entry=entry))
    with pytest.raises(InputError, match=words):
        taught(trained, tmp_path)


def test_a_teacher_is_either_made_or_taken():
    with pytest.raises(RecipeError, match="teacher: found no model, or both model and study"):
        load_recipe("tiny", ["teacher.study=elsewhere"])
