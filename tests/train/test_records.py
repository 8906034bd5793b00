"""What lies in a study's folder, and what never does."""

import json

import pytest
import torch
from safetensors.torch import load_file
from toystudy import RESNET, arm, lines, network, place, recipe, record, trained, weights

from kdprobe.errors import InputError
from kdprobe.loading import load_network
from kdprobe.models.cost import cost_of
from kdprobe.study import load_study
from kdprobe.train.cohort import gathered
from kdprobe.train.loop import train
from kdprobe.train.place import logits_of
from kdprobe.train.plan import cohorts
from kdprobe.train.saving import save_checkpoint

ARMS = {
    "base": arm("cross_entropy", role="baseline"),
    "hint": arm("cross_entropy + fitnet(regressor='conv')"),
    "crd": arm("cross_entropy + crd(dim=4)"),
    "vid": arm("cross_entropy + 0.1*vid"),
}
EPOCHS = [f"epoch-000{epoch}.safetensors" for epoch in range(3)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("study"), ARMS, predictions=True)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_the_layout(study):
    runs = [f"{name}-seed0" for name in ARMS]
    assert names(study) == sorted(["recipe.json", "study.json", "teacher", *runs])
    plain = [*EPOCHS, "best", "metrics.jsonl", "preds", "run.json"]
    for run in ("teacher", *runs):
        own = [] if run in ("teacher", "base-seed0") else ["adapters"]
        assert names(study / run) == sorted([*plain, *own])
        assert names(study / run / "preds") == EPOCHS
        (best,) = (name for name in names(study / run / "best") if name not in own)
        assert names(study / run / "best") == sorted([*own, best])
        assert all(names(study / run / "best" / folder) == [best] for folder in own)


@pytest.mark.parametrize("run", ["hint-seed0", "crd-seed0", "vid-seed0"])
def test_what_a_loss_owns_is_beside_the_student_and_never_in_it(study, run):
    assert names(study / run / "adapters") == EPOCHS
    start, end = (load_file(study / run / "adapters" / EPOCHS[at]) for at in (0, 2))
    assert start.keys() == end.keys()
    assert any(not torch.equal(start[key], end[key]) for key in start)
    assert weights(study, run, 2).keys() == weights(study, "base-seed0", 2).keys()


def test_load_study_sees_the_weights_of_epochs_only(study):
    found = load_study(study)
    assert [run.epochs for run in found.runs] == [(0, 1, 2)] * 5
    files = [checkpoint.path for run in found.runs for checkpoint in run.checkpoints]
    assert {file.parent for file in files} == {study / run.id for run in found.runs}


def test_what_the_losses_owned_in_the_best_epoch_is_beside_its_weights(tmp_path):
    """Each network has a best epoch of its own; the adapters of a pair are those of both."""
    arms = {"crd": ARMS["crd"], "pair": arm("cross_entropy + dml + 0.1*vid", together=2)}
    long = ["optimizer.epochs=6", "optimizer.lr=0.02", "teacher.epochs=1", "data.validation=0.4"]
    folder = trained(tmp_path, arms, *long, "data.arguments={train = 80, test = 16}")
    found = set()
    for run, first in (("crd-seed0",) * 2, ("pair-seed0",) * 2, ("pair-seed0.1", "pair-seed0")):
        (best,) = (folder / run / "best").glob("*.safetensors")
        (own,) = (folder / run / "best" / "adapters").iterdir()
        assert own.name == best.name
        assert own.read_bytes() == (folder / first / "adapters" / best.name).read_bytes()
        found.add(best.name)
    assert len(found) > 1, "they differ, and so not all are the first"
    assert not (folder / "teacher" / "best" / "adapters").exists()


def test_the_best_of_a_hand_written_study_are_its_weights_alone(study, tmp_path):
    """A manifest may name the folder of the best epoch; what lies in its folders is no student."""
    (tmp_path / "study.toml").write_text(
        'name = "best"\ndata = { name = "photodigits" }\n[[runs]]\nid = "one"\nrole = "student"\n'
        f'folder = "{study / "crd-seed0" / "best"}"\n'
        'network = { name = "resnet8", num_classes = 10, arguments = { width = 2 } }\n'
    )
    (run,) = load_study(tmp_path).runs
    (checkpoint,) = run.checkpoints
    assert checkpoint.path.parent == study / "crd-seed0" / "best"
    load_network(checkpoint)


def test_predictions_are_the_validation_logits(study):
    held = place(recipe(ARMS)).validation
    for epoch in (0, 2):
        kept = load_file(study / "hint-seed0" / "preds" / EPOCHS[epoch])
        wanted = logits_of(network(study, "hint-seed0", epoch), held)
        assert kept["logits"].dtype == torch.float16
        assert torch.allclose(kept["logits"].float(), wanted, rtol=1e-3, atol=1e-3)
        assert torch.equal(kept["labels"], held.labels)
        assert torch.equal(kept["rows"], held.rows)


def test_validation_and_training_images_are_apart_and_together_all():
    for changes in ([], ["data.validation=0.3"], ["data.corrupt=['bootstrap']"]):
        there = place(recipe(ARMS, *changes))
        train_rows, held = set(there.train.rows.tolist()), set(there.validation.rows.tolist())
        assert not train_rows & held
        assert set(there.whole.rows.tolist()) | held == set(range(40))


def test_parts_are_the_same_for_every_seed_and_told(study):
    told = record(study, "base-seed0")["data"]
    assert told["parts"]["training"] == 36
    assert told["parts"]["validation"] == 4
    assert told["parts"]["relabelled"] == 0
    assert len(told["parts"]["validation_rows_sha256"]) == 64
    first, second = (place(recipe(ARMS, f"seeds=[{seed}]")) for seed in (0, 5))
    assert torch.equal(first.validation.rows, second.validation.rows)


def test_the_colours_are_those_of_the_training_part_alone():
    there = place(recipe(ARMS, "data.validation=0.3"))
    pixels = there.whole.pixels[there.whole.rows].double()
    assert there.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=6e-5)
    assert there.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=6e-5)
    told = place(recipe(ARMS, "data.mean=[0.1, 0.2, 0.3]"))
    assert told.mean == (0.1, 0.2, 0.3)
    assert told.std != told.mean


def test_what_is_reported_is_the_last_epoch_and_the_best_one(study):
    for run in ("teacher", "hint-seed0"):
        told, every = record(study, run)["reported"], lines(study, run)
        best = max(every[1:], key=lambda line: (line["validation_accuracy"], -line["epoch"]))
        for name, line in (("last", every[-1]), ("best_validation", best)):
            assert told[name] == {key: line[key] for key in told[name]}
        assert set(told["last"]) == {
            "epoch",
            "validation_accuracy",
            "validation_loss",
            "test_accuracy",
            "test_loss",
        }


def test_test_numbers_are_there_where_weights_are_and_validation_always(tmp_path):
    folder = trained(tmp_path, {"one": ARMS["base"]}, teacher=None, checkpoints=[0, 2])
    start, between, last = lines(folder)
    assert between["test_loss"] is None
    assert between["test_accuracy"] is None
    assert None not in (start["test_loss"], last["test_loss"])
    assert between["validation_loss"] is not None
    assert names(folder / "one-seed0")[:2] == ["best", "epoch-0000.safetensors"]


def test_the_cost_is_that_of_the_network(study):
    body = network(study, "hint-seed0", 2).body
    told = record(study, "hint-seed0")["cost"]
    found = cost_of(body, (3, 32, 32))
    assert (told["parameters"], told["macs"]) == (found.parameters, found.macs)
    assert told["parameters"] == sum(weight.numel() for weight in body.parameters())


def test_the_record_tells_what_a_twin_without_skips_lost(tmp_path):
    twin = {**RESNET, "transforms": ["strip_skips"]}
    arms = {"base": ARMS["base"], "twin": arm(role="control", model=twin, loss="cross_entropy")}
    folder = trained(tmp_path, arms, teacher=None)
    told = record(folder, "twin-seed0")["parameter_changes"]
    counts = [record(folder, f"{name}-seed0")["cost"]["parameters"] for name in ("twin", "base")]
    assert told == {"strip_skips": counts[0] - counts[1]}
    assert told["strip_skips"] < 0
    assert record(folder, "base-seed0")["parameter_changes"] == {}


def test_mislabelled_images_are_told_apart(tmp_path):
    """How many of them are answered by the wrong label of training, and by the true one."""
    noise = "data.corrupt=['label_noise(rate=0.5)']"
    folder = trained(tmp_path, {"one": ARMS["base"]}, noise, teacher=None)
    there = place(recipe({"one": ARMS["base"]}, noise, teacher=None))
    wrong = there.mislabelled
    assert len(wrong) == int((there.train.labels != there.train.clean).sum()) > 0
    answers = logits_of(network(folder, epoch=2), wrong).argmax(1)
    last = lines(folder)[-1]
    assert last["memorised"] == pytest.approx(float((answers == wrong.labels).float().mean()))
    assert last["recovered"] == pytest.approx(float((answers == wrong.clean).float().mean()))
    assert record(folder)["data"]["parts"]["relabelled"] == len(wrong)


def test_a_teacher_may_learn_from_clean_data(tmp_path):
    noise, arms = "data.corrupt=['label_noise(rate=0.5)']", {"one": arm("kd(T=4)")}
    plain = trained(tmp_path / "plain", arms)
    clean = trained(tmp_path / "clean", arms, noise, "teacher.clean=true")
    noisy = trained(tmp_path / "noisy", arms, noise)
    ends = [load_file(folder / "teacher" / EPOCHS[2]) for folder in (plain, clean, noisy)]
    assert torch.equal(ends[0]["fc.weight"], ends[1]["fc.weight"])
    assert not torch.equal(ends[0]["fc.weight"], ends[2]["fc.weight"])


def test_a_record_that_cannot_be_read_is_told_of(tmp_path):
    folder = trained(tmp_path, {"one": ARMS["base"]}, teacher=None)
    (folder / "one-seed0" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*run.json .* delete the folder"):
        trained(tmp_path, {"one": ARMS["base"]}, teacher=None)


def test_a_recipe_of_an_older_version_is_gone_on_with(tmp_path):
    """It knew no validation, and none of the settings that came later."""
    arms = {"one": ARMS["base"]}
    folder = trained(tmp_path, arms, "data.validation=0.0", teacher=None)
    kept = json.loads((folder / "recipe.json").read_text())
    old = {key: value for key, value in kept.items() if key not in ("gradients", "search")}
    old["data"] = {key: value for key, value in kept["data"].items() if key != "validation"}
    (folder / "recipe.json").write_text(json.dumps(old))
    assert trained(tmp_path, arms, "data.validation=0.0", teacher=None) == folder
    with pytest.raises(InputError, match=r"data.validation: found 0.0, wanted 0.1"):
        trained(tmp_path, arms, teacher=None)


def test_a_recipe_json_of_another_kind_is_another_recipe(tmp_path):
    (tmp_path / "recipe.json").write_text('{"name": 3}')
    with pytest.raises(InputError, match=r"found a study of another recipe .*name: found 3"):
        trained(tmp_path, {"one": ARMS["base"]}, teacher=None)


def test_weights_that_do_not_fit_into_float16_are_refused(tmp_path):
    """They are finite, so that training could go on, but they could not be read back."""
    wanted = recipe({"one": ARMS["base"]}, teacher=None)
    (learner,) = gathered(place(wanted), cohorts(wanted)[-1]).learners
    with torch.no_grad():
        learner.members[0].network.body.fc.bias[3] = 1e5
    told = r"run 'one-seed0', epoch 4: found numbers in 'fc.bias' that do not fit float16; wanted"
    with pytest.raises(InputError, match=told):
        save_checkpoint(tmp_path, learner.members[0], 4, "float16")
    assert not list(tmp_path.iterdir())
    save_checkpoint(tmp_path, learner.members[0], 4, "float32")
    assert load_file(tmp_path / "epoch-0004.safetensors")["fc.bias"][3] == 1e5


def test_two_splits_of_other_classes_are_refused(tmp_path, monkeypatch):
    from kdprobe.datasets.contract import DATASETS

    entry = DATASETS["photodigits"]

    def make(split, **knobs):
        images = entry.make(split, **knobs)
        if split == "test":
            object.__setattr__(images, "classes", images.classes[:5])
        return images

    patched = type(entry)(**{**vars(entry), "make": make})
    monkeypatch.setitem(DATASETS._entries, "photodigits", patched)
    with pytest.raises(InputError, match="has 10 classes in training and 5 in test; wanted the sa"):
        train(recipe(ARMS), out=tmp_path)


@pytest.mark.parametrize(("share", "part"), [(0.1, "validation"), (0.0, "test")])
def test_a_run_that_diverges_at_its_last_step_is_told_as_one(tmp_path, share, part):
    """The loss of the step was still finite; that of the weights after it is not."""
    last = ["optimizer.batch_size=40", "optimizer.lr=1e30", "optimizer.schedule=constant"]
    told = rf"run 'one-seed0', after epoch 1: found a loss of \S+ \(on the {part} images\), wanted"
    with pytest.raises(InputError, match=told):
        trained(tmp_path, {"one": ARMS["base"]}, *last, f"data.validation={share}", teacher=None)
    assert names(tmp_path / "one-seed0")[:1] == ["epoch-0000.safetensors"]
    assert load_study(tmp_path).runs[0].epochs == (0,)
