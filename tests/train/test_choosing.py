"""Validation stops a run and names its best epoch; the test set has no say in either.

What is chosen of given numbers is tried in test_loop_choosing.py.
"""

import pytest
import torch
from safetensors.torch import load_file
from toystudy import arm, files, lines, record, same, trained, untimed, weights

from kdprobe.datasets.contract import DATASETS
from kdprobe.errors import RecipeError
from kdprobe.study import load_study
from kdprobe.train.choosing import best_epoch, has_stopped

EPOCHS = 8
QUICK = [
    f"optimizer.epochs={EPOCHS}",
    "optimizer.patience=1",
    "optimizer.schedule=constant",
    "optimizer.lr=0.2",
    "data.validation=0.3",
]
ARMS = {"one": arm("cross_entropy"), "two": arm("2*cross_entropy", lr=0.001)}
KEPT = {"checkpoints": [0, EPOCHS]}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("stopped"), ARMS, *QUICK, teacher=None, **KEPT)


def last(folder, run):
    return lines(folder, run)[-1]["epoch"]


def test_a_run_stops_when_its_validation_loss_has_not_become_lower(stopped):
    for run in ("one-seed0", "two-seed0"):
        every = lines(stopped, run)
        assert has_stopped(every, 1) or len(every) == EPOCHS + 1
        assert not any(has_stopped(every[:at], 1) for at in range(len(every)))
    assert last(stopped, "one-seed0") < last(stopped, "two-seed0"), "each stops for itself"


def test_it_is_saved_and_tested_at_its_last_epoch(stopped):
    epoch = last(stopped, "one-seed0")
    assert 0 < epoch < EPOCHS
    study = load_study(stopped)
    assert study.learners[0].epochs == (0, epoch)
    assert lines(stopped, "one-seed0")[-1]["test_loss"] is not None
    assert record(stopped)["run"]["status"] == "finished"
    assert record(stopped)["reported"]["last"]["epoch"] == epoch


def test_the_other_arms_learn_as_if_it_had_never_been_there(stopped, tmp_path):
    alone = trained(tmp_path, {"two": ARMS["two"]}, *QUICK, teacher=None, **KEPT)
    epoch = last(stopped, "two-seed0")
    assert same(weights(alone, "two-seed0", epoch), weights(stopped, "two-seed0", epoch))


@pytest.mark.parametrize(
    "step", [8, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 4, 12))]
)
def test_killed_at_any_step_it_stops_where_it_would_have(stopped, tmp_path, step):
    seen = []

    def stop(event):
        seen.append(event)
        if len(seen) == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, ARMS, *QUICK, teacher=None, progress=stop, **KEPT)
    trained(tmp_path, ARMS, *QUICK, teacher=None, **KEPT)
    assert files(tmp_path) == files(stopped)
    for run in ("one-seed0", "two-seed0"):
        assert untimed(tmp_path, run) == untimed(stopped, run)


def test_where_all_have_stopped_nothing_more_is_trained(tmp_path):
    events = []
    arms = {"one": ARMS["one"]}
    folder = trained(tmp_path, arms, *QUICK, teacher=None, progress=events.append, **KEPT)
    per_epoch = events[0].total // EPOCHS
    assert len(events) == per_epoch * last(folder, "one-seed0")
    assert record(folder)["run"]["status"] == "finished"


def test_the_best_epoch_is_kept_beside_and_is_the_only_one(stopped):
    for run in ("one-seed0", "two-seed0"):
        best = best_epoch(lines(stopped, run))
        kept = sorted((stopped / run / "best").glob("*"))
        assert [file.name for file in kept] == [f"epoch-{best:04d}.safetensors"]


def test_last_and_best_are_told_side_by_side(stopped):
    from toystudy import network, place, recipe

    from kdprobe.train.measuring import measured
    from kdprobe.train.place import logits_of

    told = record(stopped, "two-seed0")["reported"]
    every = lines(stopped, "two-seed0")
    best = best_epoch(every)
    assert told["last"]["test_accuracy"] == every[-1]["test_accuracy"]
    assert told["best_validation"]["epoch"] == best
    assert told["best_validation"]["validation_accuracy"] == every[best]["validation_accuracy"]
    made = network(stopped, "two-seed0", 0)
    made.body.load_state_dict(
        load_file(stopped / "two-seed0" / "best" / f"epoch-{best:04d}.safetensors")
    )
    test = place(recipe(ARMS, *QUICK, teacher=None, **KEPT)).test
    numbers = measured(logits_of(made, test), test.labels)
    assert told["best_validation"]["test_accuracy"] == pytest.approx(numbers["accuracy"])
    assert told["best_validation"]["test_loss"] == pytest.approx(numbers["loss"], rel=1e-5)


def test_without_validation_there_is_no_best(tmp_path):
    off = "data.validation=0.0"
    folder = trained(tmp_path, {"one": ARMS["one"]}, off, teacher=None)
    assert record(folder)["reported"]["best_validation"] is None
    assert record(folder)["reported"]["last"]["epoch"] == 2
    assert lines(folder)[-1]["validation_loss"] is None
    assert not (folder / "one-seed0" / "best").exists()


@pytest.mark.parametrize(
    ("changes", "needing"),
    [(["optimizer.patience=2"], "optimizer.patience"), (["predictions=true"], "predictions")],
)
def test_what_chooses_wants_validation(changes, needing):
    from toystudy import recipe

    with pytest.raises(RecipeError) as error:
        recipe(ARMS, "data.validation=0.0", *changes)
    told = f"\n  data.validation: found 0; wanted a share above 0, for {needing} choose by it"
    assert told in str(error.value)


def test_the_test_set_chooses_nothing(tmp_path, monkeypatch):
    """Its labels permuted: every weight, every choice and every number but its own is the same."""
    arms = {
        "pair": arm("cross_entropy + dml", together=2),
        "one": arm("kd(T=4)", teacher={"run": "base", "epoch": "best"}),
        "base": arm("cross_entropy", role="baseline"),
    }
    changes = ["optimizer.epochs=4", "optimizer.patience=2", "data.validation=0.3"]
    honest = trained(tmp_path / "honest", arms, *changes)
    entry = DATASETS["photodigits"]

    def make(split, **knobs):
        images = entry.make(split, **knobs)
        if split == "test":
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
            object.__setattr__(images, "labels", images.labels[order])
        return images

    patched = type(entry)(**{**vars(entry), "make": make})
    monkeypatch.setitem(DATASETS._entries, "photodigits", patched)
    permuted = trained(tmp_path / "permuted", arms, *changes)
    assert files(honest) == files(permuted)
    ours, theirs = (load_study(folder) for folder in (honest, permuted))
    assert [run.id for run in ours.runs] == [run.id for run in theirs.runs]
    differs = False
    for run in ("teacher", "pair-seed0", "pair-seed0.1", "one-seed0", "base-seed0"):
        for one, other in zip(untimed(honest, run), untimed(permuted, run), strict=True):
            odd = {key for key in one if one[key] != other[key]}
            assert all(key.startswith("test_") for key in odd), odd
            differs = differs or bool(odd)
    assert differs, "the labels were permuted"
