"""Pruning against a plain sort, PyTorch's own, the schedule's formula, and its promises in time."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as pruning

from kdprobe.errors import InputError, UnknownName
from kdprobe.models.contract import make_body
from kdprobe.models.cost import cost_of
from kdprobe.train.techniques.contract import TECHNIQUES, technique_faults, techniques_of
from kdprobe.train.techniques.prune import Prune, masked, prunable

STEPS = 4  # an epoch


def body(name="resnet8", transforms=(), **knobs):
    torch.manual_seed(3)
    return make_body(name, num_classes=10, transforms=transforms, **({"width": 4} | knobs))


def attached(network=None, **knobs):
    """A network that is shown to the technique, and the technique."""
    network, technique = network or body(), Prune(**knobs)
    technique.attach(network)
    return network, technique


def zeros(network):
    return {path: layer.weight_mask == 0 for path, layer in masked(network)}


def optimizer_of(network, method="sgd"):
    weights = list(network.parameters())
    if method == "sgd":
        return torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)
    return torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1)


def walk(network, technique, optimizer, begin, end, total):
    """Epochs `begin` to `end` of `total`, on batches that depend on the step alone."""
    network.train()
    for step in range(begin * STEPS, end * STEPS):
        technique.before_step(network, step // STEPS + step % STEPS / STEPS, total)
        chance = torch.Generator().manual_seed(step)
        pixels = torch.randn(8, 3, 8, 8, generator=chance)
        labels = torch.randint(0, 10, (8,), generator=chance)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(pixels), labels).backward()
        optimizer.step()
    if end == total:
        technique.before_step(network, total, total)


@pytest.mark.parametrize("amount", [0.1, 0.5, 0.9, 0.99])
def test_the_smallest_of_all_weights_go_and_no_others(amount):
    network, technique = attached(amount=amount)
    values = [
        (abs(value), path, place)
        for path, layer in masked(network)
        for place, value in enumerate(layer.weight_orig.flatten().tolist())
    ]
    gone = sorted(values, key=lambda value: value[0])[: round(amount * len(values))]
    technique.before_step(network, 0, 1)
    found = {
        (path, place)
        for path, cut in zeros(network).items()
        for place in cut.flatten().nonzero().flatten().tolist()
    }
    assert found == {(path, place) for _, path, place in gone}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_it_cuts_what_pytorch_cuts(scope):
    network, technique = attached(amount=0.7, scope=scope)
    other = body()
    layers = [(layer, "weight") for _, layer in list(prunable(other))[1:-1]]
    if scope == "global":
        pruning.global_unstructured(layers, pruning.L1Unstructured, amount=0.7)
    else:
        for layer, name in layers:
            pruning.l1_unstructured(layer, name, amount=0.7)
    technique.before_step(network, 0, 1)
    theirs = {path: layer.weight_mask == 0 for path, layer in masked(other)}
    assert zeros(network).keys() == theirs.keys()
    assert all(torch.equal(cut, theirs[path]) for path, cut in zeros(network).items())


@pytest.mark.parametrize("measure", ["l1", "random"])
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("amount", [0.123, 0.8])
def test_the_share_that_is_kept_is_exact(amount, scope, measure):
    network, technique = attached(amount=amount, scope=scope, measure=measure)
    before = technique.facts(network)
    technique.before_step(network, 0, 1)
    cuts = zeros(network).values()
    sizes = [cut.numel() for cut in cuts]
    gone = [int(cut.sum()) for cut in cuts]
    if scope == "layer":
        assert gone == [round(amount * size) for size in sizes]
    else:
        assert sum(gone) == round(amount * sum(sizes))
    everything = sum(weight.numel() for weight in body().parameters())
    assert before == {"kept": 1, "kept_of_all": 1, "kept_least": 1}
    facts = technique.facts(network)
    assert facts["kept"] == pytest.approx(1 - sum(gone) / sum(sizes), abs=1e-12)
    assert facts["kept_of_all"] == pytest.approx(1 - sum(gone) / everything, abs=1e-12)
    least = min(1 - g / s for g, s in zip(gone, sizes, strict=True))
    assert facts["kept_least"] == pytest.approx(least, abs=1e-12)


def test_random_cuts_repeat_by_seed_and_know_no_magnitudes():
    cuts = []
    for seed, scale in ((0, 1.0), (0, 100.0), (1, 1.0)):
        network, technique = attached(amount=0.5, measure="random", seed=seed)
        with torch.no_grad():
            next(masked(network))[1].weight_orig.mul_(scale)
        before = torch.get_rng_state()
        technique.before_step(network, 0, 1)
        assert torch.equal(before, torch.get_rng_state()), "nothing is drawn from the global state"
        cuts.append(torch.cat([cut.flatten() for cut in zeros(network).values()]))
    assert torch.equal(cuts[0], cuts[1])
    assert not torch.equal(cuts[0], cuts[2])


def test_the_cubic_schedule_is_the_papers():
    technique = Prune(amount=0.8, start=2, end=12, every=0.5)
    for step in range(4 * 20):
        passed = step / 4
        t = min(max(math.floor(passed * 2) / 2, 2), 12)
        wanted = 0.8 + (0 - 0.8) * (1 - (t - 2) / 10) ** 3
        assert technique.share(passed) == pytest.approx(wanted, abs=1e-12)
    assert technique.share(2) == 0
    assert technique.share(12) == technique.share(99) == 0.8


def test_steps_of_a_cut_are_found_though_fractions_are_not_exact():
    technique = Prune(amount=0.5, start=0, end=3, every=0.1)
    for step in range(30):
        assert technique.share(sum([0.1] * step)) == pytest.approx(technique.share(step * 0.1))
        assert technique.share(step * 0.1) == pytest.approx(0.5 * (1 - (1 - step / 30) ** 3))


def test_the_whole_amount_is_cut_at_the_end_though_no_step_ends_there():
    technique = Prune(amount=0.5, start=0, end=1, every=0.3)
    assert technique.share(0.99) == pytest.approx(0.5 * (1 - 0.1**3))
    assert technique.share(1) == 0.5


def test_what_momentum_did_behind_a_mask_brings_nothing_back():
    network, technique = attached(amount=0.8, end=2)
    technique.before_step(network, 1, 2)
    before = zeros(network)
    with torch.no_grad():
        for _, layer in masked(network):
            layer.weight_orig[layer.weight_mask == 0] = 1e3
    technique.before_step(network, 2, 2)
    after = zeros(network)
    assert all(bool((after[path] >= cut).all()) for path, cut in before.items())
    assert sum(int(cut.sum()) for cut in after.values()) > sum(
        int(cut.sum()) for cut in before.values()
    )


def test_one_shot_does_nothing_before_its_epoch_and_all_at_it():
    technique = Prune(amount=0.6, start=3)
    assert [technique.share(t) for t in (0, 2.99, 3, 3.01, 10)] == [0, 0, 0.6, 0.6, 0.6]


@pytest.mark.parametrize("method", ["sgd", "adamw"])
def test_what_is_cut_stays_zero_whatever_the_optimizer_does(method):
    network, technique = attached(amount=0.8, start=1, end=3, every=0.5)
    optimizer = optimizer_of(network, method)
    before = zeros(network)
    for epoch in range(4):
        walk(network, technique, optimizer, epoch, epoch + 1, 4)
        now = zeros(network)
        for path, layer in masked(network):
            assert bool((now[path] >= before[path]).all()), "what is cut never comes back"
            plain = technique.plain(network.state_dict())[f"{path}.weight"]
            assert not plain[now[path]].any()
            assert not layer.weight[before[path]].any(), "as the network worked with it"
        before = now
    left = 1 - technique.facts(network)["kept"]
    assert left == pytest.approx(0.8, abs=1 / sum(cut.numel() for cut in before.values()))
    assert before["layer1.0.conv1"].any()


def test_normalisation_biases_and_ends_are_left():
    network, _ = attached()
    paths = [path for path, _ in masked(network)]
    assert "conv1" not in paths
    assert "fc" not in paths
    assert len(paths) == len(list(prunable(network))) - 2
    masks = [key for key in network.state_dict() if key.endswith("_mask")]
    assert masks == [f"{path}.weight_mask" for path in paths]
    whole, _ = attached(ends=True)
    assert [path for path, _ in masked(whole)] == [path for path, _ in prunable(whole)]


@pytest.mark.parametrize(
    ("name", "knobs"), [("wrn_10_1", {}), ("vgg8", {}), ("vit_3_32", {"heads": 1, "side": 8})]
)
def test_the_plain_state_is_that_of_a_fresh_network_with_the_same_answers(name, knobs):
    torch.manual_seed(0)
    network = make_body(name, num_classes=10, **knobs)
    technique = Prune(amount=0.7, start=1)
    technique.attach(network)
    side = 32 if name == "vgg8" else 8
    optimizer = optimizer_of(network)
    for passed in (0, 1, 2):
        technique.before_step(network, passed, 3)
        optimizer.zero_grad()
        network(torch.randn(4, 3, side, side)).square().mean().backward()
        optimizer.step()
    fresh = make_body(name, num_classes=10, **knobs)
    fresh.load_state_dict(dict(technique.plain(network.state_dict())), strict=True)
    pixels = torch.randn(4, 3, side, side)
    assert torch.equal(network.eval()(pixels), fresh.eval()(pixels))
    assert cost_of(network, (3, side, side)).nonzero == cost_of(fresh, (3, side, side)).nonzero


def test_a_network_that_is_one_layer_gets_plain_keys_too():
    network, technique = attached(nn.Linear(4, 3), amount=0.5, ends=True)
    technique.before_step(network, 0, 1)
    assert set(technique.plain(network.state_dict())) == {"weight", "bias"}


@pytest.mark.parametrize("knobs", [{"start": 2}, {"start": 1, "end": 4, "every": 0.5}])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_going_on_from_a_saved_state_gives_the_same_bits(knobs, cut):
    torch.set_num_threads(1)
    whole, technique = attached(amount=0.8, **knobs)
    optimizer = optimizer_of(whole)
    walk(whole, technique, optimizer, 0, cut, 4)
    saved = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    walk(whole, technique, optimizer, cut, 4, 4)
    again, fresh = attached(amount=0.8, **knobs)
    other = optimizer_of(again)
    assert again.state_dict().keys() == saved[0].keys()
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    walk(again, fresh, other, cut, 4, 4)
    theirs = again.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())
    assert fresh.facts(again) == technique.facts(whole)


def test_masks_of_ones_change_nothing_and_a_network_can_be_copied():
    plain, (network, _) = body(), attached()
    pixels = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain.eval()(pixels), network.eval()(pixels))
    network, _ = attached()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        next(masked(twin))[1].weight_mask.zero_()
    assert torch.equal(plain(pixels), network.eval()(pixels))
    assert not torch.equal(plain(pixels), twin.eval()(pixels))


def test_rounded_layers_keep_their_zeros():
    network, technique = attached(body(transforms=("fake_quant(weights=4)",)), amount=0.9)
    technique.before_step(network, 0, 1)
    network.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    for path, layer in masked(network):
        rounded = layer.kept()
        assert not rounded[zeros(network)[path]].any()
        assert rounded.any()
    fresh = body(transforms=("fake_quant(weights=4)",))
    fresh.load_state_dict(dict(technique.plain(network.state_dict())), strict=True)
    pixels = torch.randn(4, 3, 8, 8)
    assert torch.equal(network.eval()(pixels), fresh.eval()(pixels))


def test_layers_that_attention_reads_past_their_hooks_are_not_pruned():
    network = nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 1), nn.Linear(4, 2))
    assert [path for path, _ in prunable(network)] == ["0", "2"]


def test_a_second_prune_is_refused():
    network, _ = attached()
    with pytest.raises(InputError, match="pruned already; wanted one prune a network"):
        Prune().attach(network)


def test_a_network_without_inner_layers_is_refused():
    with pytest.raises(InputError, match=r"found 2 conv.* none between .* set ends=true"):
        attached(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))


@pytest.mark.parametrize(("knobs", "told"), [({"start": 9}, "start=9"), ({"end": 8}, "end=8")])
def test_a_cut_that_would_never_come_is_refused_at_the_first_step(knobs, told):
    network, technique = attached(**knobs)
    with pytest.raises(InputError, match=f"found {told} in a training of 7 epochs.* at most 7"):
        technique.before_step(network, 0, 7)


def test_a_cut_at_the_very_end_is_made():
    network, technique = attached(amount=0.5, start=7)
    technique.before_step(network, 6.9, 7)
    assert technique.facts(network)["kept"] == 1
    technique.before_step(network, 7, 7)
    assert technique.facts(network)["kept"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prun(amount=0.5)", r"found 'prun'; wanted prune, quantize.*did you mean 'prune'"),
        ("prune(amont=0.5)", r"with knob 'amont'; wanted amount, .*did you mean 'amount'"),
        ("prune(amount=0.5", r"found the end"),
        ("prune(amount=1)", r"'prune': found amount=1; wanted a share above 0 and below 1"),
        ("prune(amount=0)", r"found amount=0; wanted a share"),
        ("prune(amount=true)", r"found amount=True; wanted a share"),
        ("prune(amount='half')", r"found amount='half'; wanted a share"),
        ("prune(start=-1)", r"found start=-1; wanted a number of epochs from 0"),
        ("prune(end='last')", r"found end='last'; wanted a number of epochs from 0"),
        ("prune(start=4, end=4)", r"found end=4 with start=4; wanted end > start"),
        ("prune(every=0)", r"found every=0; wanted epochs between two cuts"),
        ("prune(scope='block')", r"found scope='block'; wanted 'global' or 'layer'"),
        ("prune(measure='l2')", r"found measure='l2'; wanted 'l1' or 'random'"),
        ("prune(ends='keep')", r"found ends='keep'; wanted true or false"),
        ("prune(seed=1.5)", r"found seed=1.5; wanted a whole number from 0"),
        ("prune(seed=-1)", r"found seed=-1; wanted a whole number from 0"),
    ],
)
def test_what_is_wrong_with_a_technique_is_told(text, told):
    (found,) = technique_faults(text)
    assert re.search(told, found), found
    with pytest.raises((InputError, UnknownName)):
        techniques_of([text])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(InputError, match=r"found start=(nan|inf); wanted a number of epochs"):
        Prune(start=value)
    with pytest.raises(InputError, match="found amount="):
        Prune(amount=value)


def test_techniques_are_made_anew_in_order():
    calls = ["prune(amount=0.5)", "quantize(start=2)"]
    first, again = techniques_of(calls), techniques_of(calls)
    assert [type(made).__name__ for made in first] == ["Prune", "Quantize"]
    assert not {map(id, first)} & {map(id, again)}
    assert not [told for text in calls for told in technique_faults(text)]
    assert {"prune", "quantize"} <= set(TECHNIQUES)
