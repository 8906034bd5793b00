"""A term whose time is over is 0 in the metrics, and trains nothing any more."""

import pytest
from safetensors.torch import load_file
from toystudy import arm, lines, same, trained, weights

HINT = "fitnet(layer='stage2')"
UNTIL = "cross_entropy + kd(T=4)@until(epoch=1)"


def label(told):
    """The schedule stands in the label of a term or not; the name begins it."""
    return next(key for key in told["terms"] if key.startswith("kd"))


def test_a_term_after_its_time_is_nothing_in_the_metrics(tmp_path):
    folder = trained(tmp_path, {"one": arm(UNTIL)}, "optimizer.epochs=3")
    _, first, *others = lines(folder)
    assert first["terms"][label(first)]["raw"] > 0
    weighted = [told["weighted"] for told in first["terms"].values()]
    assert first["train_loss"] == pytest.approx(sum(weighted)), "as it weighed in every step"
    for told in others:
        assert told["terms"][label(told)] == {"raw": 0, "weighted": 0}
        assert told["train_loss"] == pytest.approx(told["terms"]["cross_entropy"]["raw"])


def test_a_term_until_an_epoch_is_a_stage_that_ends_there(tmp_path):
    """The second stage has no rate of its own, so that the schedule goes on."""
    until = trained(tmp_path / "until", {"one": arm(UNTIL)}, "optimizer.epochs=3")
    stages = [
        {"epochs": 1, "loss": "cross_entropy + kd(T=4)"},
        {"epochs": 2, "loss": "cross_entropy"},
    ]
    parted = trained(tmp_path / "parted", {"one": arm(stages=stages)}, "optimizer.epochs=3")
    for epoch in range(4):
        assert same(weights(until, "one-seed0", epoch), weights(parted, "one-seed0", epoch))


def test_a_schedule_counts_the_epochs_of_the_run_not_of_its_stage(tmp_path):
    stage = {"epochs": 1, "loss": UNTIL}
    folder = trained(tmp_path, {"one": arm(stages=[stage, stage])})
    _, first, second = lines(folder)
    assert first["terms"][label(first)]["raw"] > 0
    assert second["terms"][label(second)]["raw"] == 0


def test_a_loss_that_comes_back_goes_on_with_its_weights(tmp_path):
    """Hint, labels, hint: the regressor waits in between, and moves again."""
    stages = [{"epochs": 1, "loss": loss} for loss in (HINT, "cross_entropy", HINT)]
    wide = {"name": "resnet8", "arguments": {"width": 3}}
    arms = {"one": arm(stages=stages)}
    folder = trained(tmp_path, arms, "optimizer.epochs=3", teacher=wide)
    files = sorted((folder / "one-seed0" / "adapters").glob("*.safetensors"))
    start, hinted, waited, again = (load_file(file) for file in files)
    assert len(start) > 0
    assert not same(start, hinted)
    assert same(hinted, waited)
    assert not same(waited, again)
