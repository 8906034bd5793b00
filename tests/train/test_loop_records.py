"""What is beside the weights of networks that learn together, and what the test set never says.

The layout of a plain study is in test_records.py, what validation decides in test_choosing.py.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from toystudy import arm, files, lines, network, place, recipe, record, trained, weights

from kdprobe.datasets.contract import DATASETS
from kdprobe.study import load_study
from kdprobe.train.choosing import best_epoch
from kdprobe.train.measuring import measured
from kdprobe.train.place import logits_of

ARMS = {
    "pair": arm("cross_entropy + dml + crd(dim=4)", together=2),
    "gate": arm("cross_entropy + one(rise=2)", together=2, share="stage2"),
}
RUNS = ("pair-seed0", "pair-seed0.1", "gate-seed0", "gate-seed0.1")
HOW = ["data.validation=0.3", "optimizer.epochs=4", "optimizer.ema=0.5"]
SOME = {"checkpoints": [0, 4], "predictions": True}
LAST = "epoch-0004.safetensors"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("study"), ARMS, *HOW, **SOME)


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_adapters_of_a_pair_are_beside_the_first_and_in_no_checkpoint(study):
    for run in ("pair-seed0", "gate-seed0"):
        assert names(study / run / "adapters") == ["epoch-0000.safetensors", LAST]
        assert not (study / f"{run}.1" / "adapters").exists()
    kept = load_file(study / "pair-seed0" / "adapters" / LAST)
    assert {key.split(".")[0] for key in kept} == {"losses", "others"}, "both networks have a bank"
    assert sum(key.endswith(".memory") for key in kept) == 2
    plain = weights(study, "teacher", 4).keys()
    assert all(weights(study, run, epoch).keys() == plain for run in RUNS for epoch in (0, 4))


def test_each_network_has_predictions_of_its_own(study):
    held = place(recipe(ARMS, *HOW, **SOME)).validation
    for run in RUNS:
        assert names(study / run / "preds") == [f"epoch-{e:04d}.safetensors" for e in range(5)]
        kept = load_file(study / run / "preds" / LAST)
        wanted = logits_of(network(study, run, 4), held)
        assert torch.allclose(kept["logits"].float(), wanted, rtol=1e-3, atol=1e-3)
        told = measured(kept["logits"].float(), kept["labels"])["accuracy"]
        assert told == pytest.approx(lines(study, run)[-1]["validation_accuracy"], abs=0.1)
        assert torch.equal(kept["rows"], held.rows)


def test_the_best_weights_are_those_that_validation_measured(study):
    """Kept by themselves: epochs between the checkpoints may be the best."""
    there = place(recipe(ARMS, *HOW, **SOME))
    for run in ("teacher", *RUNS):
        best = best_epoch(lines(study, run))
        (file,) = (study / run / "best").glob("*.safetensors")
        assert file.name == f"epoch-{best:04d}.safetensors"
        made = network(study, run, 0)
        made.body.load_state_dict(load_file(file))
        for name, share in (("validation", there.validation), ("test", there.test)):
            found = measured(logits_of(made, share), share.labels)
            told = record(study, run)["reported"]["best_validation"]
            assert told[f"{name}_accuracy"] == pytest.approx(found["accuracy"])
            assert told[f"{name}_loss"] == pytest.approx(found["loss"], rel=1e-4)
        if best == 4:
            assert file.read_bytes() == (study / run / LAST).read_bytes()


def test_of_several_the_one_that_validation_chose_is_shown(study):
    shown = [run.id for run in load_study(study).runs][1:]
    for first in ("pair-seed0", "gate-seed0"):
        both = (first, f"{first}.1")
        last = {run: lines(study, run)[-1]["validation_accuracy"] for run in both}
        (chosen,) = (run for run in both if record(study, run)["chosen"])
        assert last[chosen] == max(last.values())
        assert [run for run in both if run in shown] == [chosen]


def test_what_is_not_asked_for_is_not_there(tmp_path):
    folder = trained(tmp_path, {"one": arm("cross_entropy")}, teacher=None)
    assert not (folder / "one-seed0" / "preds").exists()
    assert not (folder / "one-seed0" / "adapters").exists()
    for line in lines(folder):
        assert not {"memorised", "recovered", "gradients"} & line.keys()
    assert record(folder)["data"]["parts"]["relabelled"] == 0


def test_mislabelled_images_are_told_of_where_weights_are_kept(tmp_path):
    noise = "data.corrupt=['label_noise(rate=0.5)']"
    folder = trained(
        tmp_path, {"one": arm("cross_entropy")}, noise, teacher=None, checkpoints=[0, 2]
    )
    start, between, end = lines(folder)
    assert between["memorised"] is between["recovered"] is None
    for line in (start, end):
        assert 0 <= line["memorised"] <= 1
        assert line["memorised"] + line["recovered"] <= 1


@pytest.fixture
def other_tests(monkeypatch):
    """Noise with wrong labels as the test images."""
    entry = DATASETS["photodigits"]

    def make(split, **knobs):
        images = entry.make(split, **knobs)
        if split == "test":
            chance = torch.Generator().manual_seed(0)
            noise = torch.rand(images.pixels.shape, generator=chance)
            object.__setattr__(images, "pixels", noise)
            object.__setattr__(images, "labels", (images.labels + 1) % len(images.classes))
        return images

    def swap():
        patched = type(entry)(**{**vars(entry), "make": make})
        monkeypatch.setitem(DATASETS._entries, "photodigits", patched)

    return swap


def test_other_test_images_change_no_weight_and_no_choice(tmp_path, study, other_tests):
    """Neither what the colours are measured on, nor the best epoch, nor who of a pair is shown."""
    other_tests()
    other = trained(tmp_path, ARMS, *HOW, **SOME)
    assert files(other) == files(study)
    assert (other / "study.json").read_bytes() == (study / "study.json").read_bytes()
    for run in ("teacher", *RUNS):
        ours, theirs = (record(folder, run) for folder in (other, study))
        assert ours["normalisation"] == theirs["normalisation"]
        assert ours["chosen"] == theirs["chosen"]
        for key in ("epoch", "validation_accuracy", "validation_loss"):
            for told in ("last", "best_validation"):
                assert ours["reported"][told][key] == theirs["reported"][told][key]
        assert ours["reported"]["last"]["test_loss"] != theirs["reported"]["last"]["test_loss"]


def test_a_search_ranks_alike_whatever_the_test_images_are(tmp_path, other_tests):
    search = {
        "family": "resnet{depth}",
        "depths": [8],
        "widths": [2, 3, 4],
        "macs": 1e9,
        "count": 3,
        "losses": {"ce": "cross_entropy", "kd": "kd(T=4)"},
    }
    short = ["optimizer.epochs=1", "data.validation=0.3"]
    honest = trained(tmp_path / "honest", {}, *short, search=search)
    other_tests()
    other = trained(tmp_path / "other", {}, *short, search=search)
    assert files(other) == files(honest)
    ours, theirs = (json.loads((folder / "search.json").read_text()) for folder in (other, honest))
    assert ours != theirs, "the test numbers are others"
    assert untested(ours) == untested(theirs)


def untested(told):
    """What was told, without the numbers of the test set."""
    if isinstance(told, dict):
        return {key: untested(value) for key, value in told.items() if key != "test_accuracy"}
    return [untested(value) for value in told] if isinstance(told, list) else told
