"""How weights are moved, against plain loops of PyTorch written here."""

import math

import pytest
import torch
from torch.nn import functional as F
from toystudy import VIT, arm, far, lines, network, recipe, same, seen, trained, weights

from kdprobe.train.plan import cohorts
from kdprobe.train.rates import learning_rate

PLAIN = {"one": arm("cross_entropy")}
SMOOTH = {"one": arm("cross_entropy", model=VIT)}  # no BatchNorm: parts of a batch add up


def by_hand(folder, arms, changes, make, *, after=None, clip=None, epochs=2):
    """The body after a plain loop; `make` gives its optimizer, `after` sees it at each step."""
    wanted, made = recipe(arms, *changes, teacher=None), network(folder)
    optimizer = make(made.parameters())
    span = cohorts(wanted)[-1].runs[0].stages[0].span
    norms = []
    for epoch in range(1, epochs + 1):
        batches = seen(wanted, epoch)
        for step, (pixels, target) in enumerate(batches):
            passed = epoch - 1 + step / len(batches)
            rate = learning_rate(wanted.optimizer, span, passed, 1 / len(batches))
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            F.cross_entropy(made(pixels), target).backward()
            norms.append(math.sqrt(sum(float(w.grad.square().sum()) for w in made.parameters())))
            if clip is not None:
                for weight in made.parameters():
                    weight.grad *= min(1, clip / norms[-1])
            optimizer.step()
            if after is not None:
                after(made.body)
    return made.body, norms


def sgd(**knobs):
    def make(weights):
        return torch.optim.SGD(weights, **{"lr": 1, "momentum": 0.9, "weight_decay": 5e-4, **knobs})

    return make


def adam(weights):
    return torch.optim.Adam(weights, lr=1, betas=(0.8, 0.999), weight_decay=0.01)


def adamw(weights):
    return torch.optim.AdamW(weights, lr=1, betas=(0.8, 0.999), weight_decay=0.3)


CASES = {
    "sgd": ([], sgd()),
    "nesterov": (["optimizer.nesterov=true"], sgd(nesterov=True)),
    "without momentum": (["optimizer.momentum=0.0"], sgd(momentum=0)),
    "without decay": (["arms.one.weight_decay=0.0"], sgd(weight_decay=0)),
    "adam": (
        [
            "optimizer.method=adam",
            "optimizer.momentum=0.8",
            "optimizer.weight_decay=0.01",
            "optimizer.lr=0.002",
        ],
        adam,
    ),
    "adamw with a cycle": (
        [
            "optimizer.method=adamw",
            "optimizer.momentum=0.8",
            "optimizer.weight_decay=0.3",
            "optimizer.lr=0.002",
            "optimizer.schedule=one_cycle",
        ],
        adamw,
    ),
    "a warm-up": (["optimizer.warmup=1.5", "arms.one.lr=0.02"], sgd()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_plain_loop_of_pytorch_ends_at_the_same_weights(tmp_path, case):
    changes, make = CASES[case]
    folder = trained(tmp_path, PLAIN, *changes, teacher=None)
    body, norms = by_hand(folder, PLAIN, changes, make)
    assert far(weights(folder, "one-seed0", 2), body.state_dict()) < 1e-4
    told = [line["gradient_norm"] for line in lines(folder)[1:]]
    wanted = [sum(norms[at : at + 3]) / 3 for at in (0, 3)]
    assert told == pytest.approx(wanted, rel=1e-3)


def test_a_network_without_batchnorm_learns_the_same_in_parts(tmp_path):
    """36 images in steps of 16: the last one has four, so that parts are of two sizes."""
    whole = trained(tmp_path / "whole", SMOOTH, teacher=None)
    for parts in (2, 3, 5):
        cut = trained(tmp_path / str(parts), SMOOTH, f"optimizer.accumulate={parts}", teacher=None)
        assert far(weights(whole, "one-seed0", 2), weights(cut, "one-seed0", 2)) < 1e-5
        for ours, theirs in zip(lines(cut)[1:], lines(whole)[1:], strict=True):
            for key in ("train_loss", "train_accuracy", "gradient_norm"):
                assert ours[key] == pytest.approx(theirs[key], rel=1e-4), key
        assert not same(weights(whole, "one-seed0", 0), weights(cut, "one-seed0", 2))


def test_a_teacher_is_asked_for_each_part(tmp_path):
    arms = {"one": arm("kd(T=4)", model=VIT)}
    whole = trained(tmp_path / "whole", arms)
    cut = trained(tmp_path / "cut", arms, "optimizer.accumulate=2")
    teachers = (weights(folder, "teacher", 2) for folder in (whole, cut))
    assert far(*teachers) > 1e-5, "a teacher with BatchNorm sees its parts apart"
    arms = {"one": arm("kd(T=4)", model=VIT, teacher={"epoch": 0})}
    whole = trained(tmp_path / "still", arms)
    cut = trained(tmp_path / "still-cut", arms, "optimizer.accumulate=2")
    assert far(weights(whole, "one-seed0", 2), weights(cut, "one-seed0", 2)) < 1e-5


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_the_gradient_is_cut_to_its_length(tmp_path, clip):
    changes = [f"optimizer.clip={clip}"]
    folder = trained(tmp_path, PLAIN, *changes, teacher=None)
    body, norms = by_hand(folder, PLAIN, changes, sgd(), clip=clip)
    assert far(weights(folder, "one-seed0", 2), body.state_dict()) < 1e-4
    told = [line["gradient_norm"] for line in lines(folder)[1:]]
    assert sum(told) / 2 == pytest.approx(sum(norms) / 6, rel=1e-3), "as it was before the cut"


def test_a_step_is_no_longer_than_rate_times_clip(tmp_path):
    bound = ["optimizer.clip=0.01", "optimizer.momentum=0.0", "optimizer.weight_decay=0.0"]
    folder = trained(tmp_path, PLAIN, *bound, "optimizer.schedule=constant", teacher=None)
    assert lines(folder)[-1]["path_length"] == pytest.approx(6 * 0.05 * 0.01, rel=1e-3)


def test_averaged_weights_follow_their_recursion_and_are_what_is_saved(tmp_path):
    changes, decay = ["optimizer.ema=0.8"], 0.8
    folder = trained(tmp_path, PLAIN, *changes, teacher=None)
    plain = trained(tmp_path / "plain", PLAIN, teacher=None)
    averages = {key: value.double() for key, value in network(folder).body.named_parameters()}

    def after(body):
        for key, value in body.named_parameters():
            averages[key] = decay * averages[key] + (1 - decay) * value.detach().double()

    body, _ = by_hand(folder, PLAIN, changes, sgd(), after=after)
    statistics = dict(body.named_buffers())
    wanted = {**statistics, **averages}
    assert far(weights(folder, "one-seed0", 2), wanted) < 1e-4
    assert far(weights(folder, "one-seed0", 2), body.state_dict()) > 1e-3
    assert far(weights(plain, "one-seed0", 2), body.state_dict()) < 1e-4, "training does not see it"


def test_averaged_weights_are_what_is_measured(tmp_path):
    from toystudy import place

    from kdprobe.train.measuring import measured
    from kdprobe.train.place import logits_of

    folder = trained(tmp_path, PLAIN, "optimizer.ema=0.9", teacher=None)
    there = place(recipe(PLAIN, teacher=None))
    for part, share in (("validation", there.validation), ("test", there.test)):
        found = measured(logits_of(network(folder, epoch=2), share), share.labels)
        assert lines(folder)[-1][f"{part}_loss"] == pytest.approx(found["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("loss", ["0.1*cross_entropy + 0.9*kd(T=4)", "cross_entropy + at + rkd"])
def test_half_precision_stays_finite_and_near(tmp_path, kind, loss):
    arms = {"one": arm(loss)}
    half = trained(tmp_path / "half", arms, f"optimizer.autocast={kind}")
    full = trained(tmp_path / "full", arms)
    saved = weights(half, "one-seed0", 2)
    assert all(bool(torch.isfinite(value).all()) for value in saved.values())
    assert {value.dtype for value in saved.values()} == {torch.float32, torch.int64}
    ours, theirs = lines(half)[-1]["train_loss"], lines(full)[-1]["train_loss"]
    assert ours == pytest.approx(theirs, rel=0.1)
    assert not same(saved, weights(full, "one-seed0", 2)), "it was used"


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path):
    wide = {"name": "resnet8", "arguments": {"width": 8}}
    arms = {"one": arm("cross_entropy", model=wide)}
    plain = trained(tmp_path / "plain", arms, teacher=None)
    compiled = trained(tmp_path / "compiled", arms, "optimizer.compile=true", teacher=None)
    assert far(weights(plain, "one-seed0", 2), weights(compiled, "one-seed0", 2)) < 1e-3


def test_what_cannot_be_compiled_soundly_is_trained_as_it_is(tmp_path, caplog):
    """Of two channels a strided 1x1 convolution is not safe, and taps look inside."""
    for name, loss in (("narrow", "cross_entropy"), ("tapped", "cross_entropy + at")):
        plain = trained(tmp_path / f"{name}-plain", {"one": arm(loss)})
        asked = trained(tmp_path / name, {"one": arm(loss)}, "optimizer.compile=true")
        assert same(weights(plain, "one-seed0", 2), weights(asked, "one-seed0", 2))
        assert "optimizer.compile is left out" in caplog.text
        caplog.clear()
