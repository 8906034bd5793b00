"""Whose gradients are looked at: those of the present stage, of weights that move, of one part.

What they are of plain losses is in test_gradients.py.
"""

import pytest
import torch
from torch.nn import functional as F
from toystudy import RESNET, arm, files, lines, network, recipe, seen, trained


def length(loss, weights):
    slopes = torch.autograd.grad(loss, list(weights), retain_graph=True)
    return float(torch.cat([slope.flatten() for slope in slopes]).double().norm())


def test_each_stage_is_looked_at_with_its_own_terms(tmp_path):
    stages = [
        {"epochs": 1, "loss": "fitnet(layer='stage2')"},
        {"epochs": 1, "loss": "cross_entropy + kd(T=4)"},
    ]
    folder = trained(tmp_path, {"one": arm(stages=stages)}, gradients=1)
    start, first, second = lines(folder)
    assert "gradients" not in start
    assert set(first["gradients"]) == {"fitnet(layer='stage2')"}
    assert set(second["gradients"]) == {"cross_entropy", "kd(T=4)"}


def test_weights_that_stand_still_have_no_part_in_it(tmp_path):
    stages = [{"epochs": 2, "loss": "cross_entropy", "freeze": ["conv1", "bn1"]}]
    arms = {"one": arm(stages=stages)}
    folder = trained(tmp_path, arms, teacher=None, gradients=1)
    made = network(folder)
    for path in ("conv1", "bn1"):
        made.body.get_submodule(path).eval()
    pixels, target = seen(recipe(arms, teacher=None), 1)[0]
    loss = F.cross_entropy(made(pixels), target)
    names = dict(made.body.named_parameters())
    moving = [w for name, w in names.items() if name.split(".")[0] not in ("conv1", "bn1")]
    told = lines(folder)[1]["gradients"]["cross_entropy"]["norm"]
    assert told == pytest.approx(length(loss, moving), rel=1e-4)
    assert told < length(loss, names.values()) * (1 - 1e-3)


def test_of_a_step_in_parts_the_first_part_is_looked_at(tmp_path):
    arms, parts = {"one": arm("cross_entropy")}, "optimizer.accumulate=2"
    folder = trained(tmp_path, arms, parts, teacher=None, gradients=1)
    made = network(folder)
    pixels, target = (both.chunk(2)[0] for both in seen(recipe(arms, parts, teacher=None), 1)[0])
    wanted = length(F.cross_entropy(made(pixels), target), made.parameters())
    assert lines(folder)[1]["gradients"]["cross_entropy"]["norm"] == pytest.approx(wanted, rel=1e-4)


def test_layers_that_two_networks_share_are_counted_once(tmp_path):
    """Trained on cross-entropy alone, one step: the gradient is that of the step itself."""
    arms = {"one": arm("cross_entropy", together=2, share="stage2")}
    one_step = ["optimizer.batch_size=36", "optimizer.epochs=1"]
    folder = trained(tmp_path, arms, *one_step, teacher=None, gradients=1)
    (_, line) = lines(folder)
    told = line["gradients"]["cross_entropy"]
    assert told["norm"] == pytest.approx(line["gradient_norm"], rel=1e-4)
    assert told["cosine"] == pytest.approx(1)


def test_of_one_term_it_is_the_gradient_of_the_step(tmp_path):
    """On the one step of an epoch; of three times the loss the step is three times as steep."""
    one_step = ["optimizer.batch_size=36", "optimizer.epochs=1"]
    arms = {"one": arm("cross_entropy"), "three": arm("3*cross_entropy")}
    folder = trained(tmp_path, arms, *one_step, teacher=None, gradients=1)
    one, three = (lines(folder, f"{name}-seed0")[1] for name in arms)
    assert one["gradients"] == three["gradients"]
    told = one["gradients"]["cross_entropy"]["norm"]
    assert one["gradient_norm"] == pytest.approx(told, rel=1e-4)
    assert three["gradient_norm"] == pytest.approx(3 * told, rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        ["optimizer.ema=0.9", "optimizer.accumulate=2"],
        pytest.param(
            ["optimizer.autocast=bfloat16", "data.augment=['cutmix']"], marks=pytest.mark.slow
        ),
        pytest.param(["optimizer.autocast=float16", "optimizer.clip=0.5"], marks=pytest.mark.slow),
    ],
)
def test_looking_changes_no_bit_whatever_the_way_of_stepping(tmp_path, changes):
    """Of two networks with a gate of their own, and of one that is pruned and has dropout."""
    arms = {
        "one": arm("cross_entropy + one(rise=2)", together=2, share="stage2"),
        "two": arm(
            "cross_entropy + kd(T=4)",
            model={**RESNET, "transforms": ["dropout(p=0.3)"]},
            techniques=["prune(amount=0.5, start=0, end=2)"],
        ),
    }
    looked = trained(tmp_path / "looked", arms, *changes, gradients=1)
    plain = trained(tmp_path / "plain", arms, *changes)
    assert lines(looked, "two-seed0")[1]["gradients"].keys() == {"cross_entropy", "kd(T=4)"}
    assert files(looked) == files(plain)
