"""Twins: without skips, with cheap convolutions, with parts left out by chance."""

import copy

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.contract import make_body
from kdprobe.models.transforms.cheap_convolutions import cheap_convolutions
from kdprobe.models.transforms.contract import TRANSFORMS
from kdprobe.models.transforms.dropout import dropout
from kdprobe.models.transforms.fake_quant import fake_quant
from kdprobe.models.transforms.stochastic_depth import stochastic_depth
from kdprobe.models.transforms.strip_skips import (
    parameters_of_skips,
    residual_blocks,
    strip_skips,
)
from kdprobe.taps import find_taps, watch

torch.set_num_threads(1)
RESIDUAL = {"resnet8": 2560 + 192, "wrn_16_1": 512 + 2048, "ResNet18": None, "MobileNetV2": 0}
RESIDUAL |= {"ShuffleV1": 0, "vit_3_32": 0}
SMALL = {"ResNet18": {"width": 4}, "ShuffleV1": {"width": 36}}


@pytest.fixture(autouse=True)
def _chance() -> None:
    torch.manual_seed(0)


def made(name: str) -> nn.Module:
    return make_body(name, num_classes=10, **SMALL.get(name, {}))


def count(body: nn.Module) -> int:
    return sum(p.numel() for p in body.parameters())


def test_the_catalogue_holds_them() -> None:
    wanted = {"strip_skips", "cheap_convolutions", "dropout", "stochastic_depth", "fake_quant"}
    assert wanted <= set(TRANSFORMS)


@pytest.mark.parametrize("name", ["20", "8x4"])
def test_a_stripped_resnet_is_the_plain_network(name: str) -> None:
    stripped = make_body(f"resnet{name}", num_classes=10, transforms=["strip_skips"]).eval()
    plain = make_body(f"plain{name}", num_classes=10).eval()
    shapes = [(key, value.shape) for key, value in plain.state_dict().items()]
    assert [(key, value.shape) for key, value in stripped.state_dict().items()] == shapes
    assert stripped.taps == plain.taps
    plain.load_state_dict(stripped.state_dict())
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(stripped(x), plain(x))


@pytest.mark.parametrize("name", RESIDUAL)
def test_stripping_takes_the_skips_and_leaves_all_else(name: str) -> None:
    original = made(name)
    stripped, gone = copy.deepcopy(original), parameters_of_skips(original)
    assert strip_skips(stripped) is stripped
    assert count(original) - count(stripped) == gone
    assert RESIDUAL[name] in (gone, None)
    before = original.state_dict()
    assert all(torch.equal(value, before[k]) for k, value in stripped.state_dict().items())
    lost = set(before) - set(stripped.state_dict())
    assert all("downsample" in k or "convShortcut" in k or "shortcut" in k for k in lost)
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(stripped.eval()(x), original.eval()(x))


@pytest.mark.parametrize("name", RESIDUAL)
def test_without_branches_a_stripped_block_knows_nothing_of_its_input(name: str) -> None:
    """The last layer of each branch gives 0, and so do the blocks; with a skip they would not."""
    body = strip_skips(made(name)).eval()
    for block in body.modules():
        if type(block).__name__.endswith(("Block", "Unit", "Pair", "Residual")):
            layers = [m for m in block.modules() if list(m.parameters(recurse=False))]
            for p in layers[-1].parameters(recurse=False):
                nn.init.zeros_(p)
    with torch.no_grad():
        one, other = body(torch.randn(2, 3, 32, 32))
    assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["plain8", "vgg8", "ShuffleV2"])
@pytest.mark.parametrize("change", [strip_skips, parameters_of_skips, stochastic_depth])
def test_networks_that_add_nothing_are_refused(name: str, change) -> None:
    with pytest.raises(InputError, match=r"found no residual block in .*; wanted a network that"):
        change(made(name))


def test_stripping_twice_is_refused() -> None:
    with pytest.raises(InputError, match="found no residual block"):
        strip_skips(strip_skips(made("resnet8")))


@pytest.mark.parametrize("name", RESIDUAL)
def test_stochastic_depth_changes_nothing_in_evaluation(name: str) -> None:
    body = made(name).eval()
    x = torch.randn(2, 3, 32, 32)
    wanted, keys = body(x), list(body.state_dict())
    stochastic_depth(body, p=0.5)
    assert torch.equal(body(x), wanted)
    assert list(body.state_dict()) == keys


def test_branches_are_left_out_more_often_the_later_they_come() -> None:
    body = stochastic_depth(make_body("resnet20", num_classes=10), p=0.45)
    dropped = [block.dropped for block in residual_blocks(body)]
    assert dropped == pytest.approx([0.05 * (i + 1) for i in range(9)])


def test_each_image_goes_with_or_without_the_branch_and_the_mean_stays() -> None:
    block = residual_blocks(stochastic_depth(made("wrn_16_1"), p=0.5))[-1]
    branch, skip = torch.rand(4000, 2, 1, 1) + 1, torch.full((4000, 2, 1, 1), 3.0)
    share = (block.joined(branch, lambda: skip) - skip) / branch
    assert torch.equal(share.round(decimals=4).unique(), torch.tensor([0.0, 2.0]))
    assert torch.allclose(share[:, 0], share[:, 1], atol=1e-5)
    assert float(share.mean()) == pytest.approx(1.0, abs=0.05)


def test_chance_follows_the_seed() -> None:
    body = stochastic_depth(make_body("resnet8", num_classes=10), p=0.5)
    x = torch.randn(8, 3, 32, 32)
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(body(x).detach())
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("name", [*RESIDUAL, "vgg8", "ShuffleV2"])
def test_dropout_drops_between_pooling_and_classifier(name: str) -> None:
    body = made(name)
    keys, x = list(body.state_dict()), torch.randn(4, 3, 32, 32)
    whole = body.eval()(x)
    dropout(body, p=0.5)
    assert list(body.state_dict()) == keys
    assert torch.equal(body(x), whole)
    body.train()
    with watch(body, find_taps(body, ["pooled"])) as seen:
        dropped: list[torch.Tensor] = []
        path = body.taps["pooled"].path.removesuffix(".0")
        body.get_submodule(path).register_forward_hook(lambda m, i, o: dropped.append(o))
        body(x)
    there = seen["pooled"] != 0
    share = dropped[0][there] / seen["pooled"][there]
    assert torch.equal(share.round(decimals=4).unique(), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("change", [dropout, stochastic_depth])
@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_what_is_no_probability_is_refused(change, p: float) -> None:
    with pytest.raises(InputError, match=rf"found p={p}; wanted a probability"):
        change(made("resnet8"), p=p)


def test_dropout_wants_a_pooling_layer() -> None:
    with pytest.raises(InputError, match="found no pooling layer in Linear"):
        dropout(nn.Linear(2, 2))


@pytest.mark.parametrize(("kind", "groups"), [("depthwise", 4), ("grouped", 2), ("grouped", 4)])
@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "ResNet18"])
def test_cheap_convolutions_have_the_weights_of_their_formula(
    kind: str, groups: int, name: str
) -> None:
    original = made(name)
    twin = cheap_convolutions(copy.deepcopy(original), kind=kind, groups=groups)
    wanted = count(original)
    for path, layer in original.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.in_channels > 3:
            i, o = layer.in_channels, layer.out_channels
            wanted += i * i * 9 // (i if kind == "depthwise" else groups) + i * o - i * o * 9
            assert isinstance(twin.get_submodule(path), nn.Sequential)
    assert count(twin) == wanted
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert twin(x).shape == (2, 10)
    first = next(m for m in twin.modules() if isinstance(m, nn.Conv2d))
    assert (first.in_channels, first.groups) == (3, 1)
    assert twin.taps == original.taps


def test_a_cheap_convolution_is_a_full_one_of_low_rank() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, 2, 1))
    space, mixing = cheap_convolutions(body)[1]
    full = torch.einsum("oi,ihw->oihw", mixing.weight[:, :, 0, 0], space.weight[:, 0])
    x = torch.randn(2, 4, 7, 7)
    wanted = nn.functional.conv2d(x, full, mixing.bias, stride=2, padding=1)
    assert torch.allclose(body[1](x), wanted, atol=1e-6)


def test_cheap_weights_start_at_he_normal_of_their_group() -> None:
    body = nn.Sequential(nn.Conv2d(3, 256, 3), nn.Conv2d(256, 128, 3))
    space, mixing = cheap_convolutions(body, kind="grouped", groups=4)[1]
    assert float(space.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert float(mixing.weight.detach().std()) == pytest.approx((2 / 128) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("name", "knobs", "told"),
    [
        ("resnet8", {"kind": "ghost"}, "found kind='ghost'; wanted 'depthwise' or 'grouped'"),
        ("resnet8", {"kind": "grouped", "groups": 3}, "groups=3 for the 16 channels of 'layer1.0"),
        ("resnet8", {"kind": "grouped", "groups": 0}, "groups=0"),
        ("MobileNetV2", {}, "found no full convolution behind the first layer of MobileNetV2"),
        ("vit_3_32", {}, "found no full convolution"),
    ],
)
def test_cheap_convolutions_are_refused_where_there_are_none(
    name: str, knobs: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        cheap_convolutions(made(name), **knobs)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "ResNet18"])
def test_transforms_compose(name: str) -> None:
    texts = ["stochastic_depth(p=0.3)", "cheap_convolutions(kind='grouped', groups=2)"]
    texts += ["fake_quant(weights=4, activations=8)", "dropout"]
    knobs = SMALL.get(name, {})
    one = make_body(name, num_classes=10, transforms=texts, **knobs)
    other = make_body(name, num_classes=10, transforms=texts, **knobs)
    x = torch.randn(2, 3, 32, 32)
    one(x).sum().backward()
    assert all(p.grad is not None for p in one.parameters())
    other.load_state_dict(one.state_dict(), strict=True)
    assert torch.equal(one.eval()(x), other.eval()(x))


@pytest.mark.parametrize("name", ["MobileNetV2", "ShuffleV1", "vit_3_32"])
def test_all_networks_can_be_rounded(name: str) -> None:
    body = fake_quant(strip_skips(made(name)), weights=4, activations=4)
    body(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in body.parameters())
