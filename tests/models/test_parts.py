"""Networks are the sum of a lower and an upper part, and know which modules the upper one uses."""

import hashlib

import pytest
import torch

from kdprobe.models.contract import FAMILIES, make_body
from kdprobe.models.fingerprint import Fingerprint, built, fingerprint, registered
from kdprobe.taps import watch

torch.set_num_threads(1)
NAMES = ("resnet8", "plain8", "resnet8x4", "wrn_16_1", "vgg8", "ResNet18", "MobileNetV2")
NAMES += ("ShuffleV1", "ShuffleV2", "vit_3_32")
EXAMPLES = [example for entry in FAMILIES.values() for example in entry.examples]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [32, 64])
def test_both_parts_in_a_row_are_the_network(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = make_body(name, num_classes=5).eval()
    x = torch.rand(2, 3, side, side)
    with torch.no_grad(), watch(model, model.taps) as seen:
        logits = model(x)
        stage2 = seen["stage2"]
    with torch.no_grad():
        assert torch.equal(model.lower(x), stage2)
        assert torch.equal(model.upper(stage2), logits)


@pytest.mark.parametrize("name", NAMES)
def test_the_upper_part_names_what_it_uses_and_nothing_else(name: str) -> None:
    model = make_body(name, num_classes=5)
    model.upper(model.lower(torch.rand(2, 3, 32, 32)).detach()).sum().backward()
    used = {key for key, p in model.named_parameters() if p.grad is not None}
    prefixes = tuple(f"{part}." for part in model.upper_parts)
    assert used == {key for key, _ in model.named_parameters() if key.startswith(prefixes)}
    for part in model.upper_parts:
        model.get_submodule(part)


@pytest.mark.parametrize("side", [62, 63, 64, 65])
def test_vgg_pools_by_the_size_of_the_image_also_in_its_upper_part(side: int) -> None:
    model = make_body("vgg8", num_classes=5, width=4).eval()
    with torch.no_grad(), watch(model, model.taps) as seen:
        model(torch.rand(1, 3, side, side))
    assert seen["stage5"].shape[2] == (side // 8 if side < 64 else side // 16)


@pytest.mark.parametrize("name", EXAMPLES)
def test_registered_networks_still_have_their_fingerprint(name: str) -> None:
    assert built(name) == registered(name)


def test_fingerprints_tell_networks_apart_and_not_their_weights() -> None:
    ours = fingerprint(make_body("resnet8", num_classes=10))
    assert ours == fingerprint(make_body("resnet8", num_classes=10))
    assert len({built(name).keys for name in EXAMPLES}) == len(EXAMPLES)
    assert registered("resnet8") != ours  # at 100 classes
    assert registered("resnet1000") is None


def test_a_fingerprint_by_hand() -> None:
    layer = torch.nn.Linear(3, 2)
    digest = "bias 2\nweight 2x3"
    wanted = hashlib.sha256(digest.encode()).hexdigest()[:16]
    assert fingerprint(layer) == Fingerprint(8, wanted)
