"""The cost of a network against sums by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kdprobe.models.contract import make_body
from kdprobe.models.cost import cost_of
from kdprobe.models.transforms.fake_quant import fake_quant, switch

torch.set_num_threads(1)


def by_hooks(body: nn.Module, side: int) -> int:
    """Multiply-adds of convolutions and linear layers: outputs times inputs of each."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in body.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        body.eval()(torch.zeros(1, 3, side, side))
    return total


def test_a_network_by_hand() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 5))
    cost = cost_of(body, (3, 6, 6))
    assert cost.parameters == cost.nonzero == 4 * 27 + 4 + 5 * 144 + 5
    assert cost.macs == 36 * 4 * 27 + 5 * 144
    assert cost.bits == 32 * cost.parameters


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1"])
@pytest.mark.parametrize("side", [32, 16])
def test_multiply_adds_are_those_of_the_layers(name: str, side: int) -> None:
    body = make_body(name, num_classes=10)
    assert cost_of(body, (3, side, side)).macs == by_hooks(body, side)


def test_attention_counts_its_matrix_products() -> None:
    body = make_body("vit_3_32", num_classes=10)
    tokens, width, blocks = 64, 32, 3
    wanted = by_hooks(body, 32) + blocks * 2 * tokens * tokens * width
    assert cost_of(body, (3, 32, 32)).macs == wanted


def test_rounded_weights_need_the_bits_of_their_layers_while_that_is_on() -> None:
    plain = make_body("resnet8", num_classes=10)
    weights = [p.numel() for p in plain.parameters() if p.dim() > 1]
    rest = sum(p.numel() for p in plain.parameters() if p.dim() == 1)
    twin = fake_quant(make_body("resnet8", num_classes=10), weights=2, activations=4)
    ends = weights[0] + weights[-1]
    wanted = 8 * ends + 2 * (sum(weights) - ends) + 32 * rest
    assert cost_of(twin, (3, 32, 32)).bits == wanted
    assert cost_of(twin, (3, 32, 32)).macs == cost_of(plain, (3, 32, 32)).macs
    switch(twin, False)
    assert cost_of(twin, (3, 32, 32)).bits == cost_of(plain, (3, 32, 32)).bits
    whole = fake_quant(make_body("resnet8", num_classes=10), weights=32)
    assert cost_of(whole, (3, 32, 32)).bits == cost_of(plain, (3, 32, 32)).bits


def test_half_precision_halves_the_bits() -> None:
    body = make_body("resnet8", num_classes=10)
    whole = cost_of(body, (3, 8, 8)).bits
    assert cost_of(body.half(), (3, 8, 8)).bits == whole // 2


def test_pruned_weights_are_not_counted_as_nonzero() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5))
    prune.l1_unstructured(body[0], "weight", amount=27)
    with torch.no_grad():
        body[2].weight[0] = 0.0
        body[2].bias.zero_()
    cost = cost_of(body, (3, 3, 3))
    assert cost.nonzero == cost.parameters - 27 - 4
    prune.remove(body[0], "weight")
    assert cost_of(body, (3, 3, 3)) == cost


def test_the_network_is_left_as_it_was() -> None:
    body = make_body("resnet8", num_classes=10)
    body.layer1.eval()
    before = {key: value.clone() for key, value in body.state_dict().items()}
    modes = [module.training for module in body.modules()]
    cost_of(body, (3, 32, 32))
    assert [module.training for module in body.modules()] == modes
    assert all(torch.equal(value, before[k]) for k, value in body.state_dict().items())


def test_a_network_without_parameters_costs_nothing() -> None:
    cost = cost_of(nn.Flatten(), (3, 4, 4))
    assert (cost.parameters, cost.macs, cost.bits) == (0, 0, 0)
