"""Training in stages: what is frozen keeps its bits, statistics included, and the rest moves."""

import pytest
import torch
from safetensors.torch import load_file
from toystudy import arm, far, lines, recipe, record, same, trained, weights

from kdprobe.errors import RecipeError

HINT = "fitnet(layer='stage2', regressor='conv')"
TEACHER = {"name": "resnet8", "arguments": {"width": 3}}
LOWER = ["conv1", "bn1", "layer1"]
TWO = arm(
    stages=[
        {"epochs": 1, "loss": HINT},
        {"epochs": 2, "loss": "cross_entropy", "freeze": LOWER, "lr": 0.02},
    ]
)
LONG = "optimizer.epochs=3"


@pytest.fixture(scope="module")
def hinted(tmp_path_factory):
    """FitNet as the paper trains it: the hint first, then the labels."""
    return trained(tmp_path_factory.mktemp("hinted"), {"one": TWO}, LONG, teacher=TEACHER)


def inside(key, paths):
    return any(key.startswith(f"{path}.") for path in paths)


def test_the_first_stage_moves_what_its_loss_sees_and_nothing_above(hinted):
    start, first = weights(hinted, "one-seed0", 0), weights(hinted, "one-seed0", 1)
    for key in start:
        if key.endswith("weight") and inside(key, ["conv1", "bn1", "layer1", "layer2"]):
            assert not torch.equal(start[key], first[key]), key


def test_frozen_layers_keep_weights_and_statistics_and_the_rest_moves(hinted):
    before, after = weights(hinted, "one-seed0", 1), weights(hinted, "one-seed0", 3)
    frozen = [key for key in before if inside(key, LOWER)]
    assert any("running_mean" in key for key in frozen)
    assert any("num_batches_tracked" in key for key in frozen)
    for key in before:
        assert torch.equal(before[key], after[key]) == (key in frozen), key


def test_the_terms_of_each_stage_are_told_in_its_epochs(hinted):
    start, first, second, third = lines(hinted)
    assert start["terms"] == {}
    assert set(first["terms"]) == {HINT}
    assert set(second["terms"]) == set(third["terms"]) == {"cross_entropy"}
    told = record(hinted)["losses"]
    assert [stage["epochs"] for stage in told] == [[0, 1], [1, 3]]
    assert [stage["frozen"] for stage in told] == [[], LOWER]
    assert told[0]["terms"][0]["layers"] == ["stage2"]


def test_a_rate_of_its_own_begins_the_schedule_anew(hinted):
    _, first, second, third = lines(hinted)
    assert first["lr"][0] == 0.05
    assert first["lr"][1] == pytest.approx(0.05 * (1 - 0.5) / 2)  # cos(2/3 pi) = -1/2
    assert second["lr"][0] == 0.02
    assert third["lr"][0] == pytest.approx(0.01)


def test_the_regressor_stands_still_while_its_stage_is_over(hinted):
    """It has no gradient then, and weight decay alone moves nothing that has none."""
    first, last = (load_file(f) for f in adapters(hinted)[1::2])
    assert len(first) > 0
    assert same(first, last)


def adapters(folder):
    return sorted((folder / "one-seed0" / "adapters").glob("*.safetensors"))


def test_a_loss_in_two_stages_keeps_its_weights(tmp_path):
    """One stage of three epochs, or three of one each: the same bits, the regressor's too."""
    alone = trained(tmp_path / "alone", {"one": arm(HINT)}, LONG, teacher=TEACHER)
    parts = {"one": arm(stages=[{"epochs": 1, "loss": HINT}] * 3)}
    parted = trained(tmp_path / "parted", parts, LONG, teacher=TEACHER)
    assert same(weights(alone, "one-seed0", 3), weights(parted, "one-seed0", 3))
    ours, theirs = adapters(parted), adapters(alone)
    assert [file.read_bytes() for file in ours] == [file.read_bytes() for file in theirs]
    assert len(load_file(ours[0])) == 2, "one regressor: weight and bias"
    assert not same(load_file(ours[0]), load_file(ours[3]))


def test_what_was_frozen_moves_again_in_the_next_stage(tmp_path):
    stages = [
        {"epochs": 1, "loss": "cross_entropy", "freeze": ["layer1.0"]},
        {"epochs": 1, "loss": "cross_entropy"},
    ]
    folder = trained(tmp_path, {"one": arm(stages=stages)}, teacher=None)
    start, first, last = (weights(folder, "one-seed0", epoch) for epoch in range(3))
    for key in start:
        still = key.startswith("layer1.0.")
        assert torch.equal(start[key], first[key]) == still, key
        assert not torch.equal(first[key], last[key]), key


def test_a_network_that_is_frozen_whole_stays_and_the_loss_is_told(tmp_path):
    stages = [{"epochs": 2, "loss": "cross_entropy", "freeze": [""]}]
    folder = trained(tmp_path, {"one": arm(stages=stages)}, teacher=None)
    assert same(weights(folder, "one-seed0", 0), weights(folder, "one-seed0", 2))
    assert lines(folder)[-1]["train_loss"] > 0
    assert (lines(folder)[-1]["path_length"], lines(folder)[-1]["gradient_norm"]) == (0, 0)


@pytest.mark.parametrize("half", ["float32", "float16"])
def test_while_no_term_weighs_anything_the_weights_stay(tmp_path, half):
    arms = {"one": arm("cross_entropy@after(epoch=1)")}
    folder = trained(tmp_path, arms, f"optimizer.autocast={half}", teacher=None)
    start, first, last = (parameters(folder, epoch) for epoch in range(3))
    assert same(start, first)
    assert not same(first, last)


def parameters(folder, epoch):
    """Without the statistics, which follow the images whatever the loss is."""
    found = weights(folder, "one-seed0", epoch)
    return {key: value for key, value in found.items() if key.endswith(("weight", "bias"))}


def test_the_quantification_papers_second_stage(tmp_path):
    """Features are matched, then all but the last layer is frozen and the labels are learnt."""
    below = ["conv1", "bn1", "layer1", "layer2", "layer3"]
    stages = [
        {"epochs": 1, "loss": "feature(layer='logits')"},
        {"epochs": 1, "loss": "cross_entropy", "freeze": below},
    ]
    folder = trained(tmp_path, {"one": arm(stages=stages, lr=0.005)})
    before, after = (weights(folder, "one-seed0", epoch) for epoch in (1, 2))
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"fc.weight", "fc.bias"}
    assert record(folder)["run"]["matched_layer"] == "logits"


@pytest.mark.parametrize(
    ("one", "key", "words"),
    [
        (
            arm(stages=[{"epochs": 1, "loss": "kd"}, {"epochs": 3, "loss": "kd"}]),
            "arms.one.stages",
            "found 1 + 3 epochs; wanted 2 together",
        ),
        (
            arm(stages=[{"epochs": 2, "loss": "kd", "freeze": ["layr1"]}]),
            "arms.one.stages",
            "found freeze 'layr1'; wanted a module path of the network; did you mean 'layer1'?",
        ),
        (
            arm(stages=[{"epochs": 1, "loss": "kd"}, {"epochs": 1, "loss": "kdd"}]),
            "arms.one.stages.1.loss",
            "position 1: found 'kdd'; wanted",
        ),
        (
            arm("kd", stages=[{"epochs": 2, "loss": "kd"}]),
            "arms.one",
            "found no loss, or both loss and stages; wanted one of the two",
        ),
        (arm(), "arms.one", "found no loss, or both loss and stages; wanted one of the two"),
    ],
)
def test_stages_that_do_not_fit_are_refused(one, key, words):
    with pytest.raises(RecipeError) as error:
        recipe({"one": one})
    assert f"\n  {key}: {words}" in str(error.value)


def test_stages_change_nothing_where_they_are_all_alike(tmp_path):
    whole = trained(tmp_path / "whole", {"one": arm("kd(T=4)")})
    parts = {"one": arm(stages=[{"epochs": 1, "loss": "kd(T=4)"}] * 2)}
    parted = trained(tmp_path / "parted", parts)
    assert far(weights(whole, "one-seed0", 2), weights(parted, "one-seed0", 2)) == 0
