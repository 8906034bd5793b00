"""The bundled networks are the zoo's: parameters, keys and taps are RepDistiller's."""

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.contract import FAMILIES, make_body
from kdprobe.taps import shapes, watch

MILLIONS = {  # parameters at 100 classes, measured on RepDistiller's networks
    "resnet8": 0.084,
    "resnet14": 0.181,
    "resnet20": 0.278,
    "resnet32": 0.473,
    "resnet44": 0.667,
    "resnet56": 0.862,
    "resnet110": 1.737,
    "resnet8x4": 1.234,
    "resnet32x4": 7.434,
    "wrn_16_1": 0.181,
    "wrn_16_2": 0.703,
    "wrn_40_1": 0.570,
    "wrn_40_2": 2.255,
    "vgg8": 3.965,
    "vgg11": 9.277,
    "vgg13": 9.462,
    "vgg16": 14.774,
    "vgg19": 20.087,
}
SMALL = ("resnet8", "resnet14", "resnet8x4", "plain8", "plain8x4", "wrn_16_1", "wrn_16_2", "vgg8")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def _chance() -> None:
    torch.manual_seed(0)


def norm(path: str) -> list[str]:
    return [f"{path}.{name}" for name in NORM]


def basic_block(path: str, projection: bool) -> list[str]:
    keys = [f"{path}.conv1.weight", *norm(f"{path}.bn1"), f"{path}.conv2.weight"]
    keys += norm(f"{path}.bn2")
    if projection:
        keys += [f"{path}.downsample.0.weight", *norm(f"{path}.downsample.1")]
    return keys


def randomise_norms(model: nn.Module) -> None:
    """Statistics of a trained network, so that no branch is an identity by chance."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_as_many_as_in_the_zoo(name: str) -> None:
    with torch.device("meta"):
        model = make_body(name, num_classes=100)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert round(millions, 3) == MILLIONS[name]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_example_of_a_family_can_be_built(family: str) -> None:
    for name in FAMILIES[family].examples:
        with torch.device("meta"):
            body = make_body(name, num_classes=10)
        assert list(body.taps)[-2:] == ["pooled", "logits"]


def test_resnet_keys() -> None:
    wanted = ["conv1.weight", *norm("bn1")]
    for stage in (1, 2, 3):
        wanted += basic_block(f"layer{stage}.0", projection=stage > 1)
        wanted += basic_block(f"layer{stage}.1", projection=False)
    wanted += ["fc.weight", "fc.bias"]
    assert list(make_body("resnet14", num_classes=10).state_dict()) == wanted


def test_resnet8x4_projects_in_every_stage() -> None:
    keys = make_body("resnet8x4", num_classes=10).state_dict()
    assert all(f"layer{stage}.0.downsample.0.weight" in keys for stage in (1, 2, 3))
    assert keys["layer1.0.downsample.0.weight"].shape == (64, 32, 1, 1)


def test_wrn_keys() -> None:
    wanted = ["conv1.weight"]
    for stage in (1, 2, 3):
        path = f"block{stage}.layer.0"
        wanted += [*norm(f"{path}.bn1"), f"{path}.conv1.weight"]
        wanted += [*norm(f"{path}.bn2"), f"{path}.conv2.weight", f"{path}.convShortcut.weight"]
    wanted += [*norm("bn1"), "fc.weight", "fc.bias"]
    assert list(make_body("wrn_10_2", num_classes=10).state_dict()) == wanted


def test_narrow_wrn_has_no_shortcut_where_the_channels_stay() -> None:
    keys = make_body("wrn_16_1", num_classes=10).state_dict()
    shortcuts = [key for key in keys if "convShortcut" in key]
    wanted = ["block2.layer.0.convShortcut.weight", "block3.layer.0.convShortcut.weight"]
    assert shortcuts == wanted


def test_vgg_keys() -> None:
    wanted = []
    for block, count in enumerate((1, 1, 2, 2, 2)):
        for i in range(count):
            path = f"block{block}.{3 * i}"
            wanted += [f"{path}.weight", f"{path}.bias", *norm(f"block{block}.{3 * i + 1}")]
    wanted += ["classifier.weight", "classifier.bias"]
    with torch.device("meta"):
        assert list(make_body("vgg11", num_classes=10).state_dict()) == wanted


@pytest.mark.parametrize("name", SMALL)
def test_relus_are_modules_used_once_and_not_in_place(name: str) -> None:
    model = make_body(name, num_classes=10).eval()
    relus = {path: m for path, m in model.named_modules() if isinstance(m, nn.ReLU)}
    assert relus
    assert not any(relu.inplace for relu in relus.values())
    calls = []
    for path, relu in relus.items():
        relu.register_forward_hook(lambda module, inputs, output, path=path: calls.append(path))
    model(torch.rand(1, 3, 32, 32))
    assert sorted(calls) == sorted(relus)


@pytest.mark.parametrize("name", SMALL)
def test_every_called_module_returns_one_untouched_tensor(name: str) -> None:
    model = make_body(name, num_classes=10).eval()
    seen = []
    for module in model.modules():
        module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 32))
    assert all(isinstance(output, torch.Tensor) for output in seen)
    assert all(output._version == 0 for output in seen if output._base is None)


TAPS = {
    "resnet8": [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 1, 1)],
    "plain8": [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 1, 1)],
    "resnet8x4": [(32, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (256, 1, 1)],
    "wrn_16_2": [(16, 32, 32), (32, 32, 32), (64, 16, 16), (128, 8, 8), (128, 1, 1)],
    "vgg8": [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4), (512, 1, 1)],
}


@pytest.mark.parametrize("name", TAPS)
def test_taps_have_the_shapes_of_the_zoo(name: str) -> None:
    model = make_body(name, num_classes=7)
    found = shapes(model, model.taps, torch.rand(2, 3, 32, 32))
    assert list(found.values()) == [*TAPS[name], (7,)]
    stages = [f"stage{i}" for i in range(1, 6 if name == "vgg8" else 4)]
    stem = [] if name == "vgg8" else ["stem"]
    assert list(found) == [*stem, *stages, "pooled", "logits"]


@pytest.mark.parametrize("name", SMALL)
def test_taps_are_of_the_kind_they_say_and_name_real_weights(name: str) -> None:
    model = make_body(name, num_classes=10).eval()
    randomise_norms(model)
    with torch.no_grad(), watch(model, model.taps) as seen:
        logits = model(torch.rand(4, 3, 32, 32))
    for key, tap in model.taps.items():
        assert (seen[key].min() < 0) == (tap.kind != "post"), key
        assert any(True for _ in model.get_submodule(tap.weights).parameters())
    assert torch.equal(seen["logits"], logits)


def test_a_tap_holds_the_weights_that_make_it_only() -> None:
    model = make_body("resnet8", num_classes=10)
    assert model.taps["stage2"].weights == "layer2"
    assert model.taps["pooled"].weights == ""
    assert model.taps["logits"].weights == "fc"
    assert make_body("vgg8", num_classes=10).taps["logits"].weights == "classifier"


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8"])
@pytest.mark.parametrize("side", [28, 64])
def test_other_image_sizes_work(name: str, side: int) -> None:
    model = make_body(name, num_classes=5).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 5)


@pytest.mark.parametrize(("side", "last"), [(32, 4), (64, 4)])
def test_vgg_pools_a_fourth_time_only_for_large_images(side: int, last: int) -> None:
    model = make_body("vgg8", num_classes=5)
    assert shapes(model, model.taps, torch.rand(1, 3, side, side))["stage5"] == (512, last, last)


def test_a_residual_block_adds_its_input_and_a_plain_one_does_not() -> None:
    ours, chain = make_body("resnet8", num_classes=10), make_body("plain8", num_classes=10)
    x = torch.rand(2, 16, 8, 8)
    for model, wanted in ((ours, x), (chain, torch.zeros_like(x))):
        block = model.get_submodule("layer1.0").eval()
        nn.init.zeros_(block.conv2.weight)
        with torch.no_grad():
            assert torch.equal(block(x), wanted)


def test_a_preactivation_block_adds_its_raw_input() -> None:
    block = make_body("wrn_16_1", num_classes=10).get_submodule("block1.layer.0").eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("name", ["8", "14", "8x4"])
def test_plain_is_resnet_less_its_projections(name: str) -> None:
    ours = make_body(f"resnet{name}", num_classes=10)
    chain = make_body(f"plain{name}", num_classes=10)
    kept = [key for key in ours.state_dict() if "downsample" not in key]
    assert list(chain.state_dict()) == kept
    assert chain.taps == ours.taps


@pytest.mark.parametrize("width", [4, 32])
def test_width_scales_every_stage(width: int) -> None:
    model = make_body("resnet8", num_classes=10, width=width)
    found = shapes(model, model.taps, torch.rand(1, 3, 32, 32))
    channels = [found[f"stage{i}"][0] for i in (1, 2, 3)]
    assert channels == [width, 2 * width, 4 * width]


def test_weights_start_at_he_normal_over_the_fan_out() -> None:
    weight = make_body("resnet8x4", num_classes=10).get_submodule("layer3.0.conv2").weight
    assert float(weight.detach().std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    bias = make_body("vgg8", num_classes=10).get_submodule("block0.0").bias
    assert not bias.any()


@pytest.mark.parametrize(
    "name",
    ["resnet21", "resnet2", "resnet0", "plain9", "wrn_17_2", "wrn_4_1", "wrn_16_0", "vgg9"],
)
def test_impossible_names_are_refused_with_what_to_take(name: str) -> None:
    with pytest.raises(InputError, match=rf"found .*'{name}'; wanted .*; take"):
        make_body(name, num_classes=10)


def test_an_empty_width_is_refused() -> None:
    with pytest.raises(InputError, match="found width 0; wanted at least 1"):
        make_body("resnet8", num_classes=10, width=0)
