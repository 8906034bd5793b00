"""MobileNetV2, ShuffleV1, ShuffleV2 and ResNet50 are the zoo's: parameters, keys, taps."""

import re

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError
from kdprobe.models._shuffled import shuffled
from kdprobe.models.contract import make_body
from kdprobe.taps import shapes, watch

torch.set_num_threads(1)
MILLIONS = {"MobileNetV2": 0.813, "ShuffleV1": 0.949, "ShuffleV2": 1.356, "ResNet50": 23.705}
NAMES = (*MILLIONS, "ResNet18")
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
TAPS = {  # of 32-pixel images, measured on RepDistiller's networks
    "MobileNetV2": [(16, 16, 16), (12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2), (1280, 1, 1)],
    "ShuffleV1": [(24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4), (960, 1, 1)],
    "ShuffleV2": [(24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4), (1024, 1, 1)],
    "ResNet50": [
        (64, 32, 32),
        (256, 32, 32),
        (512, 16, 16),
        (1024, 8, 8),
        (2048, 4, 4),
        (2048, 1, 1),
    ],
}


@pytest.fixture(autouse=True)
def _chance() -> None:
    torch.manual_seed(0)


def norm(path: str) -> list[str]:
    return [f"{path}.{name}" for name in NORM]


def layers(path: str, count: int) -> list[str]:
    """Keys of `count` convolutions, each with its norm, as conv1, bn1, conv2, ..."""
    pairs = [[f"{path}.conv{i}.weight", *norm(f"{path}.bn{i}")] for i in range(1, count + 1)]
    return [key for pair in pairs for key in pair]


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_as_many_as_in_the_zoo(name: str) -> None:
    with torch.device("meta"):
        model = make_body(name, num_classes=100)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == MILLIONS[name]


def test_mobilenet_keys() -> None:
    wanted = ["conv1.0.weight", *norm("conv1.1")]
    for group, count in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(count):
            path = f"blocks.{group}.{block}.conv"
            for i in (0, 3, 6):
                wanted += [f"{path}.{i}.weight", *norm(f"{path}.{i + 1}")]
    wanted += ["conv2.0.weight", *norm("conv2.1"), "classifier.0.weight", "classifier.0.bias"]
    assert list(make_body("MobileNetV2", num_classes=10).state_dict()) == wanted


def test_shuffle1_keys() -> None:
    wanted = ["conv1.weight", *norm("bn1")]
    for stage, count in enumerate((4, 8, 4), start=1):
        for block in range(count):
            wanted += layers(f"layer{stage}.{block}", 3)
    wanted += ["linear.weight", "linear.bias"]
    assert list(make_body("ShuffleV1", num_classes=10).state_dict()) == wanted


def test_shuffle2_keys() -> None:
    wanted = ["conv1.weight", *norm("bn1")]
    for stage, count in enumerate((3, 7, 3), start=1):
        wanted += layers(f"layer{stage}.0", 5)
        for block in range(1, count + 1):
            wanted += layers(f"layer{stage}.{block}", 3)
    wanted += ["conv2.weight", *norm("bn2"), "linear.weight", "linear.bias"]
    assert list(make_body("ShuffleV2", num_classes=10).state_dict()) == wanted


@pytest.mark.parametrize(
    ("name", "counts", "depth"), [("ResNet50", (3, 4, 6, 3), 3), ("ResNet18", (2, 2, 2, 2), 2)]
)
def test_deep_resnet_keys(name: str, counts: tuple[int, ...], depth: int) -> None:
    wanted = ["conv1.weight", *norm("bn1")]
    for stage, count in enumerate(counts, start=1):
        for block in range(count):
            path = f"layer{stage}.{block}"
            wanted += layers(path, depth)
            if block == 0 and (stage > 1 or depth == 3):
                wanted += [f"{path}.shortcut.0.weight", *norm(f"{path}.shortcut.1")]
    wanted += ["linear.weight", "linear.bias"]
    with torch.device("meta"):
        assert list(make_body(name, num_classes=10).state_dict()) == wanted


@pytest.mark.parametrize("name", TAPS)
def test_taps_have_the_shapes_of_the_zoo(name: str) -> None:
    model = make_body(name, num_classes=7)
    found = shapes(model, model.taps, torch.rand(2, 3, 32, 32))
    assert list(found.values()) == [*TAPS[name], (7,)]


@pytest.mark.parametrize("name", NAMES)
def test_taps_are_of_the_kind_they_say_and_name_real_weights(name: str) -> None:
    model = make_body(name, num_classes=10).eval()
    with torch.no_grad(), watch(model, model.taps) as seen:
        logits = model(torch.rand(4, 3, 32, 32))
    for key, tap in model.taps.items():
        assert (seen[key].min() < 0) == (tap.kind != "post"), key
        assert any(True for _ in model.get_submodule(tap.weights).parameters())
    assert torch.equal(seen["logits"], logits)


@pytest.mark.parametrize("name", NAMES)
def test_relus_are_modules_used_once_and_not_in_place(name: str) -> None:
    model = make_body(name, num_classes=10).eval()
    relus = {path: m for path, m in model.named_modules() if isinstance(m, nn.ReLU)}
    assert not any(relu.inplace for relu in relus.values())
    calls: list[str] = []
    for path, relu in relus.items():
        relu.register_forward_hook(lambda module, inputs, output, path=path: calls.append(path))
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 32))
    assert sorted(calls) == sorted(relus)


@pytest.mark.parametrize("name", ["MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet18"])
@pytest.mark.parametrize("side", [28, 64])
def test_other_image_sizes_work(name: str, side: int) -> None:
    model = make_body(name, num_classes=5).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, side, side)).shape == (1, 5)


def test_a_shuffle_deals_out_channels_as_in_a_loop() -> None:
    x = torch.rand(2, 6, 2, 2)
    wanted = torch.empty_like(x)
    for g in range(3):
        for i in range(2):
            wanted[:, i * 3 + g] = x[:, g * 2 + i]
    assert torch.equal(shuffled(x, 3), wanted)


def test_half_of_the_channels_pass_a_shuffle2_block_untouched() -> None:
    block = make_body("ShuffleV2", num_classes=10).get_submodule("layer1.1").eval()
    x = torch.randn(2, 116, 4, 4)
    with torch.no_grad():
        assert torch.equal(block(x)[:, ::2], x[:, :58])


def test_a_shuffle1_stage_starts_with_its_averaged_input_beside_the_branch() -> None:
    block = make_body("ShuffleV1", num_classes=10).get_submodule("layer1.0").eval()
    x = torch.rand(2, 24, 8, 8)
    with torch.no_grad():
        averaged = nn.functional.avg_pool2d(x, 3, 2, 1)
        assert torch.equal(block(x)[:, -24:], averaged)


@pytest.mark.parametrize(
    ("path", "name"), [("blocks.1.1", "MobileNetV2"), ("layer2.1", "ResNet50")]
)
def test_a_block_adds_its_input(path: str, name: str) -> None:
    block = make_body(name, num_classes=10).get_submodule(path).eval()
    last = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    nn.init.zeros_(last.weight)
    x = torch.rand(2, next(block.parameters()).shape[1], 4, 4)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("name", "width", "stages"),
    [
        ("MobileNetV2", 1.0, [24, 32, 96, 320]),
        ("ShuffleV1", 60, [60, 120, 240]),
        ("ShuffleV2", 48, [48, 96, 192]),
        ("ResNet50", 8, [32, 64, 128, 256]),
        ("ResNet34", 16, [16, 32, 64, 128]),
        ("vgg8", 8, [8, 16, 32, 64, 64]),
    ],
)
def test_width_scales_every_stage(name: str, width: float, stages: list[int]) -> None:
    model = make_body(name, num_classes=10, width=width)
    found = shapes(model, model.taps, torch.rand(1, 3, 32, 32))
    assert [found[tap][0] for tap in found if tap.startswith("stage")] == stages


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("MobileNetV2", 0.05),
        ("ShuffleV1", 24),
        ("ShuffleV1", 50),
        ("ShuffleV2", 0),
        ("ShuffleV2", 7),
        ("ResNet50", 0),
        ("vgg8", 0),
    ],
)
def test_impossible_widths_are_refused(name: str, width: float) -> None:
    with pytest.raises(InputError, match=rf"found width {re.escape(str(width))}; wanted"):
        make_body(name, num_classes=10, width=width)


def test_a_depth_that_the_paper_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"found depth 56 in 'ResNet56'; .*take ResNet50, or res"):
        make_body("ResNet56", num_classes=10)
