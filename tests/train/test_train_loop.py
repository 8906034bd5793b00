"""The trainer writes what `load_study` reads, fair to all arms, and tells all that it did."""

import json
import math
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kdprobe.device import choose_device
from kdprobe.errors import InputError, OutputError, RecipeError, UsageError
from kdprobe.loading import load_network
from kdprobe.study import load_study
from kdprobe.train.loop import train
from kdprobe.train.place import Progress
from kdprobe.train.recipe import load_recipe

ARMS = ("baseline-seed0", "kd-seed0", "feature-seed0")


def lines(folder, run):
    return [json.loads(x) for x in (folder / run / "metrics.jsonl").read_text().splitlines()]


def record(folder, run):
    return json.loads((folder / run / "run.json").read_text())


def lengths(file):
    with safe_open(file, "pt") as content:
        return json.loads(content.metadata()["path_length"])


def test_load_study_reads_the_output(trained):
    study = load_study(trained)
    assert [run.id for run in study.runs] == ["teacher", *ARMS]
    assert [run.role for run in study.runs] == ["teacher", "baseline", "student", "student"]
    assert all(run.epochs == (0, 1, 2) for run in study.runs)
    assert all(run.entry.status == "finished" for run in study.runs)
    assert [run.entry.matched_layer for run in study.runs] == ["", "", "", "logits"]
    assert len(study.pairs()) == 2
    network = load_network(study.runs[1].last)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert not (trained / "state").exists()
    assert not list(trained.rglob("*.tmp"))


def test_arms_of_a_seed_start_from_the_same_bits_and_then_part(trained):
    starts = [load_file(trained / run / "epoch-0000.safetensors") for run in ARMS]
    ends = [load_file(trained / run / "epoch-0002.safetensors") for run in ARMS]
    for start in starts[1:]:
        assert all(torch.equal(start[key], starts[0][key]) for key in start)
    assert not torch.equal(ends[0]["fc.weight"], ends[1]["fc.weight"])
    assert not torch.equal(starts[0]["fc.weight"], ends[0]["fc.weight"])


def test_two_arms_with_one_loss_end_with_the_same_bits(tmp_path, small):
    same = ["arms.kd.loss=cross_entropy", "arms.feature.loss=2*cross_entropy"]
    folder = train("tiny", out=tmp_path, overrides=[*small, *same])
    twin, other, double = (load_file(folder / run / "epoch-0002.safetensors") for run in ARMS)
    assert all(torch.equal(twin[key], other[key]) for key in twin)
    assert not torch.equal(twin["fc.weight"], double["fc.weight"])


def test_metrics_have_a_line_an_epoch_with_every_term(trained):
    start, first, last = lines(trained, "kd-seed0")
    assert [start["epoch"], first["epoch"], last["epoch"]] == [0, 1, 2]
    assert [start["steps"], first["steps"], last["steps"]] == [0, 3, 6]
    assert start["train_loss"] is None
    assert start["lr"] == []
    assert first["lr"] == [0.05, pytest.approx(0.025 * (1 + math.cos(math.pi / 3)))]
    parts = last["terms"]
    assert set(parts) == {"cross_entropy", "kd(T=4)"}
    assert parts["kd(T=4)"]["weighted"] == pytest.approx(0.9 * parts["kd(T=4)"]["raw"])
    total = sum(part["weighted"] for part in parts.values())
    assert last["train_loss"] == pytest.approx(total, rel=1e-5)
    assert 0 <= last["test_accuracy"] <= 1
    assert 0 <= last["test_agreement"] <= 1
    assert last["seconds"] >= 0
    assert lines(trained, "teacher")[-1]["test_agreement"] is None


def test_run_records_say_where_weights_come_from(trained):
    found = record(trained, "kd-seed0")
    assert found["recipe"] == json.loads((trained / "recipe.json").read_text())
    assert found["teacher"]["file"] == "teacher/epoch-0002.safetensors"
    seal = load_study(trained).runs[0].last.sealed().digest
    assert found["teacher"]["sha256"] == seal
    told = lines(trained, "teacher")[-1]["test_accuracy"]
    assert found["teacher"]["test_accuracy"] == pytest.approx(told)
    assert set(found["versions"]) == {"python", "torch", "numpy", "kdprobe"}
    assert (found["device"], found["threads"], found["precision"]) == ("cpu", 1, "float32")
    assert found["data"]["train"]["images"] == 40
    assert record(trained, "teacher")["teacher"] is None


def test_paths_are_never_shorter_than_the_straight_way(trained):
    for run in ("teacher", *ARMS):
        files = sorted((trained / run).glob("*.safetensors"))
        for before, after in pairwise(files):
            walked, so_far = lengths(after), lengths(before)
            start, end = load_file(before), load_file(after)
            for scope in walked:
                straight = distance(start, end, scope)
                assert walked[scope] - so_far[scope] >= straight * (1 - 1e-5)
    assert set(lengths(files[0]).values()) == {0.0}
    assert {"", "layer1", "layer1.0", "layer1.0.conv1", "fc"} <= set(lengths(files[0]))


def test_one_step_is_as_long_as_its_distance(tmp_path, small):
    one = ["optimizer.batch_size=40", "optimizer.epochs=1", "checkpoints=[0, 1]"]
    folder = train("tiny", out=tmp_path, overrides=[*small, *one])
    start, end = (load_file(folder / "kd-seed0" / f"epoch-000{i}.safetensors") for i in (0, 1))
    for scope, length in lengths(folder / "kd-seed0" / "epoch-0001.safetensors").items():
        assert length == pytest.approx(distance(start, end, scope), rel=1e-5)


def distance(start, end, scope):
    """Between two state dicts, over the parameters (not the statistics) inside a scope."""
    inside = [
        key
        for key in start
        if (not scope or key.startswith(f"{scope}.")) and key.endswith(("weight", "bias"))
    ]
    squares = sum(float((end[key].double() - start[key].double()).pow(2).sum()) for key in inside)
    return math.sqrt(squares)


def test_float16_halves_floats_only_and_says_so(tmp_path, small):
    folder = train("tiny", out=tmp_path, overrides=[*small, "precision=float16"])
    with safe_open(folder / "teacher" / "epoch-0002.safetensors", "pt") as file:
        metadata = file.metadata()
        kinds = {key: file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 - no dict
    assert kinds["fc.weight"] == torch.float16
    assert kinds["bn1.num_batches_tracked"] == torch.int64
    assert (metadata["format"], metadata["epoch"], metadata["precision"]) == (
        "kdprobe",
        "2",
        "float16",
    )


def test_progress_counts_the_steps_of_each_cohort(tmp_path, small):
    seen: list[Progress] = []
    train(load_recipe("tiny", small), out=tmp_path, progress=seen.append)
    assert [event.done for event in seen] == [1, 2, 3, 4, 5, 6] * 2
    assert {event.total for event in seen} == {6}
    assert seen[-1].what == "seed0, epoch 2 of 2"


def test_the_global_random_state_is_left_alone(tmp_path, small):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train("tiny", out=tmp_path, overrides=[*small, "optimizer.epochs=1", "checkpoints=[0, 1]"])
    assert torch.equal(torch.rand(3), wanted)


def test_a_study_without_a_teacher(tmp_path):
    recipe = load_recipe("tiny").model_dump(mode="json")
    alone = {**recipe, "teacher": None, "arms": {"baseline": recipe["arms"]["baseline"]}}
    from kdprobe.train.recipe import settle

    settled = settle(alone, ["seeds=[0]", "data.arguments={train=16, test=8}"], title="alone")
    folder = train(settled, out=tmp_path)
    assert load_study(folder).teacher is None
    assert record(folder, "baseline-seed0")["teacher"] is None


def test_another_recipe_is_refused_with_what_differs(trained, small):
    with pytest.raises(InputError, match=r"optimizer.lr: found 0.05, wanted 0.1.*--out"):
        train("tiny", out=trained, overrides=[*small, "optimizer.lr=0.1"])
    assert train("tiny", out=trained, overrides=small) == trained


def test_a_study_from_elsewhere_is_refused(tmp_path, small):
    (tmp_path / "study.toml").write_text("name = 'mine'")
    with pytest.raises(InputError, match=r"without recipe\.json"):
        train("tiny", out=tmp_path, overrides=small)


def test_a_loss_that_does_not_fit_is_told_before_training(tmp_path, small):
    misfit = ["arms.feature.loss=feature(layer='pooled')", "arms.kd.loss=feature(layer='stage9')"]
    with pytest.raises(InputError) as error:
        train("tiny", out=tmp_path, overrides=[*small, *misfit])
    told = str(error.value)
    assert "arms.feature: student layer 'pooled' has shape (8, 1, 1), teacher" in told
    assert "arms.kd: found no layer 'stage9'; did you mean 'stage" in told
    assert not (tmp_path / "teacher").exists()


def test_a_layer_inside_the_network_can_be_matched(tmp_path, small):
    inside = ["teacher.model.arguments={width = 2}", "arms.feature.loss=feature(layer='stage3')"]
    folder = train("tiny", out=tmp_path, overrides=[*small, *inside])
    assert record(folder, "feature-seed0")["run"]["matched_layer"] == "stage3"
    assert lines(folder, "feature-seed0")[-1]["terms"]["feature(layer='stage3')"]["raw"] > 0


def test_a_diverged_run_stops_with_its_step_and_term_and_keeps_its_good_checkpoints(
    tmp_path, small
):
    told = r"run 'teacher', epoch 1, step 2: found a loss of nan \(cross_entropy\), wanted a finite"
    with pytest.raises(InputError, match=told):
        train("tiny", out=tmp_path, overrides=[*small, "teacher.lr=1e30"])
    assert [run.epochs for run in load_study(tmp_path).runs] == [(0,)]


def test_a_faulty_recipe_object_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"arms.kd.loss: position 1"):
        train(load_recipe("tiny"), out=tmp_path, overrides=["arms.kd.loss=kdd"])


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path, small):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*choose another folder"):
        train("tiny", out=tmp_path / "file" / "study", overrides=small)


@pytest.mark.parametrize(
    ("name", "words"),
    [("gpu", "wanted 'auto'"), ("mps", "wanted 'auto'"), ("cuda:99", "torch sees")],
)
def test_devices_that_are_not_there(name, words):
    with pytest.raises(UsageError, match=words):
        choose_device(name)


def test_devices_that_are_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in ("cpu", "cuda")


def test_a_control_trains_beside_the_others_from_the_same_bits(tmp_path, small):
    smooth = "{role='control', model={name='resnet8', arguments={width=2}}, loss='%s'}"
    arm = "arms.smooth=" + smooth % "cross_entropy(smoothing=0.1)"
    folder = train("tiny", out=tmp_path, overrides=[*small, arm])
    study = load_study(folder)
    assert [run.id for run in study.controls] == ["smooth-seed0"]
    assert [(s.id, c.id) for s, c in study.control_pairs()] == [
        ("kd-seed0", "smooth-seed0"),
        ("feature-seed0", "smooth-seed0"),
    ]
    base, control = (load_file(run.checkpoints[0].path) for run in study.learners[::3])
    assert all(torch.equal(base[key], control[key]) for key in base)
    base, control = (load_file(run.last.path) for run in study.learners[::3])
    assert not torch.equal(base["fc.weight"], control["fc.weight"])
