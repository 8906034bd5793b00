"""When rounding begins: the switch, the ranges, resuming, and what the last checkpoint answers."""

import copy
import json
import re

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError
from kdprobe.loading import load_network
from kdprobe.models.contract import make_body
from kdprobe.models.transforms.fake_quant import layers, switch
from kdprobe.study import load_study
from kdprobe.train.loop import train
from kdprobe.train.recipe import load_recipe, settle
from kdprobe.train.techniques.contract import technique_faults
from kdprobe.train.techniques.quantize import Quantize

ROUNDED = ("fake_quant(weights=4, activations=4)",)
STEPS, TOTAL = 4, 4


def body(transforms=ROUNDED):
    torch.manual_seed(3)
    return make_body("resnet8", num_classes=10, width=4, transforms=transforms)


def attached(**knobs):
    network, technique = body(), Quantize(**knobs)
    technique.attach(network)
    return network, technique


def optimizer_of(network):
    return torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def walk(network, technique, optimizer, begin, end):
    """Epochs `begin` to `end`, on batches that depend on the step alone; is it on at each step?"""
    torch.set_num_threads(1)
    network.train()
    seen = []
    for step in range(begin * STEPS, end * STEPS):
        technique.before_step(network, step / STEPS, TOTAL)
        seen.append(technique.facts(network)["rounds"])
        chance = torch.Generator().manual_seed(step)
        pixels = torch.randn(8, 3, 8, 8, generator=chance)
        labels = torch.randint(0, 10, (8,), generator=chance)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
    if end == TOTAL:
        technique.before_step(network, TOTAL, TOTAL)
        seen.append(technique.facts(network)["rounds"])
    return seen


class Nothing:
    """No technique at all."""

    def before_step(self, body, passed, total):
        pass

    def facts(self, body):
        return {"rounds": False}


def ranges(network):
    found = [layer.inputs for layer in layers(network) if layer.inputs is not None]
    return torch.stack([torch.stack([seen.low, seen.peak, seen.rms]) for seen in found])


@pytest.mark.parametrize(
    ("knobs", "off"),
    [
        ({}, 0),
        ({"start": 1.5}, 6),
        ({"start": 2}, 8),
        ({"start": TOTAL}, 16),
        ({"after": True}, 16),
    ],
)
def test_it_rounds_from_its_moment_on(knobs, off):
    network, technique = attached(**knobs)
    assert technique.facts(network)["rounds"] == (off == 0), "already before the first step"
    seen = walk(network, technique, optimizer_of(network), 0, TOTAL)
    assert seen == [False] * off + [True] * (len(seen) - off)
    assert all(bool(layer.on) for layer in layers(network))


def test_after_training_the_weights_are_those_of_a_plain_network_and_the_answers_are_rounded():
    network, technique = attached(after=True)
    plain = body(transforms=())
    walk(network, technique, optimizer_of(network), 0, TOTAL)
    walk(plain, Nothing(), optimizer_of(plain), 0, TOTAL)
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in plain.state_dict().items())
    pixels = torch.randn(8, 3, 8, 8)
    rounded = network.eval()(pixels)
    switch(network, False)
    assert torch.equal(network(pixels), plain.eval()(pixels))
    assert not torch.equal(rounded, plain(pixels))
    assert bool((ranges(network)[:, 1] > 0).all()), "every layer has seen its inputs"


def test_ranges_are_learnt_before_rounding_and_stand_still_from_freeze():
    network, technique = attached(start=2, freeze=3)
    optimizer = optimizer_of(network)
    seen = []
    for epoch in range(TOTAL):
        walk(network, technique, optimizer, epoch, epoch + 1)
        seen.append(ranges(network))
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[2], seen[3])
    assert bool((seen[0][:, 1:] > 0).all())


@pytest.mark.parametrize("knobs", [{"start": 2, "freeze": 3}, {"after": True}, {"freeze": 1}])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_going_on_from_a_saved_state_gives_the_same_bits(knobs, cut):
    whole, technique = attached(**knobs)
    optimizer = optimizer_of(whole)
    walk(whole, technique, optimizer, 0, cut)
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    walk(whole, technique, optimizer, cut, TOTAL)
    again, fresh = attached(**knobs)
    other = optimizer_of(again)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    walk(again, fresh, other, cut, TOTAL)
    theirs = again.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())


def test_the_state_is_that_of_the_network_of_the_entry():
    network, technique = attached(after=True)
    walk(network, technique, optimizer_of(network), 3, TOTAL)
    fresh = body()
    fresh.load_state_dict(dict(technique.plain(network.state_dict())), strict=True)
    pixels = torch.randn(8, 3, 8, 8)
    assert torch.equal(network.eval()(pixels), fresh.eval()(pixels))


def test_a_network_that_cannot_round_is_refused():
    with pytest.raises(InputError, match="fake_quant"):
        Quantize().attach(body(transforms=()))


def test_a_start_that_would_never_come_is_refused_at_the_first_step():
    network, technique = attached(start=9)
    with pytest.raises(InputError, match="found start=9 in a training of 4 epochs"):
        technique.before_step(network, 0, TOTAL)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("quantise", r"found 'quantise'; .*did you mean 'quantize'"),
        ("quantize(begin=3)", r"with knob 'begin'; wanted start, freeze, after"),
        ("quantize(start=-1)", r"found start=-1; wanted a number of epochs from 0"),
        ("quantize(freeze='end')", r"found freeze='end'; wanted a number of epochs from 0"),
        ("quantize(freeze=0)", r"found freeze=0, so ranges would never be seen"),
        ("quantize(after=1)", r"found after=1; wanted true or false"),
        ("quantize(after=true, start=2)", r"found after=true with start or freeze; wanted one"),
        ("quantize(after=true, freeze=2)", r"found after=true with start or freeze; wanted one"),
    ],
)
def test_what_is_wrong_with_it_is_told(text, told):
    (found,) = technique_faults(text)
    assert re.search(told, found), found


def of_a_study(folder):
    """Last weights by run, as any reader of the study sees them, and the facts of each epoch."""
    found = {}
    for run in load_study(folder).runs:
        lines = (folder / run.id / "metrics.jsonl").read_text().splitlines()
        keys = ("kept", "rounds", "test_loss")
        facts = [{key: json.loads(line).get(key) for key in keys} for line in lines]
        body = load_network(run.last, torch.device("cpu")).body
        found[run.id] = body.state_dict(), facts
    return found


@pytest.mark.slow
def test_a_study_that_is_pruned_and_rounded_goes_on_with_the_same_bits(tmp_path, small):
    raw = load_recipe("tiny", small).model_dump(mode="json")
    kd = raw["arms"]["kd"]
    kd["model"] |= {"transforms": list(ROUNDED)}
    kd["techniques"] = ["prune(amount=0.5, start=0.5, end=1.5, every=0.25)", "quantize(after=true)"]
    recipe = settle({**raw, "arms": {"kd": kd}}, title="both")

    def stop(event):
        if event.what == "seed0, epoch 2 of 2":
            raise KeyboardInterrupt

    whole = of_a_study(train(recipe, out=tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "again", progress=stop)
    again = of_a_study(train(recipe, out=tmp_path / "again"))
    for run, (weights, facts) in whole.items():
        assert facts == again[run][1]
        assert all(torch.equal(value, again[run][0][key]) for key, value in weights.items())
    weights, facts = whole["kd-seed0"]
    assert [line["rounds"] for line in facts] == [False, False, True]
    assert facts[-1]["kept"] == 0.5
    zeros = [int((v == 0).sum()) for key, v in weights.items() if v.dim() > 1]
    sizes = [v.numel() for v in weights.values() if v.dim() > 1][1:-1]
    assert sum(zeros) == round(0.5 * sum(sizes)), "read as plain weights, with their zeros"
