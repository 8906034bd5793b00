"""Rounding to few bits: levels, steps, gradients, the switch, and what a state dict holds."""

import copy
import math

import pytest
import torch
from torch import nn

from kdprobe.errors import InputError
from kdprobe.models.contract import make_body
from kdprobe.models.transforms._rounding import BEST, Inputs, RoundedConv2d, rounded_weights
from kdprobe.models.transforms.fake_quant import (
    calibrate,
    fake_quant,
    layers,
    load_plain,
    observe,
    switch,
)

torch.set_num_threads(1)
ON = torch.tensor(True)


@pytest.fixture(autouse=True)
def _chance() -> None:
    torch.manual_seed(0)


def distortion(step: float, top: int) -> float:
    """Mean squared error of rounding N(0, 1) to 2 top + 1 levels, summed on a fine grid."""
    x = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    rounded = (x / step).round().clamp(-top, top) * step
    return float(torch.trapezoid(density * (x - rounded).square(), x))


@pytest.mark.parametrize("top", BEST)
def test_the_best_steps_have_the_least_error(top: int) -> None:
    least = distortion(BEST[top], top)
    assert least < distortion(BEST[top] * 1.01, top)
    assert least < distortion(BEST[top] * 0.99, top)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_are_rounded_as_in_a_loop(bits: int) -> None:
    weight = torch.randn(5, 3, 3, 3)
    weight[4] = 0.0
    found = rounded_weights(weight, bits, ON)
    top = 2 ** (bits - 1) - 1
    for channel, values in zip(found, weight, strict=True):
        flat = [float(w) for w in values.flatten()]
        rms = math.sqrt(sum(w * w for w in flat) / len(flat))
        step = min(max(abs(w) for w in flat) / top, BEST[top] * rms)
        wanted = [max(-top, min(top, round(w / step))) * step if step else w for w in flat]
        assert torch.allclose(channel.flatten(), torch.tensor(wanted), atol=1e-6)
        assert len(channel.unique()) <= 2**bits - 1


def test_gradients_pass_straight_through_inside_the_clip_and_stop_outside() -> None:
    weight = torch.tensor([[0.1, -0.2, 0.15, 3.0]], requires_grad=True)
    rounded_weights(weight, 2, ON).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 1.0, 1.0, 0.0]]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("positive", [True, False])
def test_inputs_are_rounded_to_their_levels(bits: int, positive: bool) -> None:
    rounding = Inputs(bits, torch.device("cpu"))
    x = torch.randn(4000).abs() if positive else torch.randn(4000)
    out = rounding(x, ON)
    top = 2**bits - 1 if positive else 2 ** (bits - 1) - 1
    step = min(float(x.abs().max()) / top, BEST[top] * float(x.square().mean().sqrt()))
    wanted = (x / step).round().clamp(0 if positive else -top, top) * step
    assert torch.allclose(out, wanted, atol=1e-5)
    assert len(out.unique()) <= 2**bits


def test_ranges_are_moving_averages_that_start_with_the_first_batch() -> None:
    rounding = Inputs(8, torch.device("cpu"))
    rounding(torch.tensor([-1.0, 3.0]), ON)
    assert (float(rounding.low), float(rounding.peak)) == (-1.0, 3.0)
    rounding(torch.tensor([-2.0, 5.0]), ON)
    assert float(rounding.low) == pytest.approx(-1.1)
    assert float(rounding.peak) == pytest.approx(3.2)
    rounding.eval()(torch.tensor([-20.0, 50.0]), ON)
    rounding.train().observing = False
    rounding(torch.tensor([-20.0, 50.0]), ON)
    assert float(rounding.peak) == pytest.approx(3.2)


def test_inputs_without_known_range_stay_as_they_are() -> None:
    x = torch.randn(7)
    assert torch.equal(Inputs(2, torch.device("cpu")).eval()(x, ON), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ranges_are_learnt_in_full_precision(dtype: torch.dtype) -> None:
    rounding = Inputs(8, torch.device("cpu"))
    out = rounding(torch.full((100_000,), 30.0, dtype=dtype), ON)
    assert float(rounding.rms) == pytest.approx(30.0)
    assert out.dtype == dtype


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8"])
def test_the_twin_has_the_keys_of_the_plain_network_and_its_own_buffers(name: str) -> None:
    plain = make_body(name, num_classes=10)
    twin = make_body(name, num_classes=10, transforms=["fake_quant(weights=4, activations=4)"])
    extra = set(twin.state_dict()) - set(plain.state_dict())
    assert set(plain.state_dict()) <= set(twin.state_dict())
    assert {key.rsplit(".", 1)[1] for key in extra} == {"on", "low", "peak", "rms"}
    assert [(k, p.shape) for k, p in twin.named_parameters()] == [
        (k, p.shape) for k, p in plain.named_parameters()
    ]
    assert twin.taps == plain.taps


def test_no_weights_are_drawn() -> None:
    torch.manual_seed(3)
    plain = make_body("resnet8", num_classes=10)
    after = torch.rand(1)
    torch.manual_seed(3)
    twin = fake_quant(make_body("resnet8", num_classes=10))
    assert torch.equal(torch.rand(1), after)
    assert all(torch.equal(value, twin.state_dict()[k]) for k, value in plain.state_dict().items())


@pytest.mark.parametrize("name", ["resnet8", "vgg8"])
def test_switched_off_it_answers_as_the_plain_network(name: str) -> None:
    plain = make_body(name, num_classes=10)
    twin = fake_quant(make_body(name, num_classes=10), weights=2, activations=2)
    load_plain(twin, plain.state_dict())
    x = torch.randn(4, 3, 32, 32)
    twin(x)
    load_plain(twin, plain.state_dict())
    plain.eval()
    twin.eval()
    assert not torch.allclose(twin(x), plain(x))
    switch(twin, False)
    assert torch.equal(twin(x), plain(x))
    switch(twin, True)
    assert torch.equal(twin(x), twin(x))


def test_a_state_dict_tells_all_of_the_answer() -> None:
    twin = fake_quant(make_body("resnet8", num_classes=10), weights=4, activations=4)
    twin(torch.randn(4, 3, 32, 32))
    switch(twin, False)
    other = fake_quant(make_body("resnet8", num_classes=10), weights=4, activations=4)
    other.load_state_dict(twin.state_dict(), strict=True)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(twin.eval()(x), other.eval()(x))


def test_first_and_last_layer_keep_eight_bits() -> None:
    twin = fake_quant(make_body("resnet8", num_classes=10), weights=2, activations=2)
    bits = [layer.bits for layer in layers(twin)]
    assert bits == [8, *[2] * (len(bits) - 2), 8]
    assert [layer.inputs.bits for layer in layers(twin)] == bits
    whole = fake_quant(make_body("resnet8", num_classes=10), weights=2, activations=32, ends=2)
    assert {layer.bits for layer in layers(whole)} == {2}
    assert all(layer.inputs is None for layer in layers(whole))


def test_observing_stops_when_it_is_told_to() -> None:
    twin = fake_quant(make_body("resnet8", num_classes=10))
    observe(twin, False)
    twin(torch.randn(2, 3, 32, 32))
    assert not any(layer.inputs.peak for layer in layers(twin))
    observe(twin, True)
    twin(torch.randn(2, 3, 32, 32))
    assert all(layer.inputs.peak for layer in layers(twin))


def test_calibrating_moves_ranges_only_and_leaves_the_modes() -> None:
    twin = fake_quant(make_body("resnet8", num_classes=10))
    twin.layer1.eval()
    before, modes = copy.deepcopy(twin.state_dict()), [m.training for m in twin.modules()]
    calibrate(twin, [torch.randn(2, 3, 32, 32)] * 2)
    moved = {k for k, value in twin.state_dict().items() if not torch.equal(value, before[k])}
    assert {key.rsplit(".", 2)[1] for key in moved} == {"inputs"}
    assert [m.training for m in twin.modules()] == modes


def test_eight_bits_answer_nearly_as_full_precision_and_fewer_bits_less_so() -> None:
    plain = make_body("resnet8", num_classes=10)
    x = torch.randn(64, 3, 32, 32)
    plain(x)
    plain.eval()
    errors = []
    for bits in (8, 4, 2):
        twin = fake_quant(make_body("resnet8", num_classes=10), weights=bits, activations=bits)
        load_plain(twin, plain.state_dict())
        calibrate(twin, [x])
        with torch.no_grad():
            errors.append(float((twin.eval()(x) - plain(x)).norm() / plain(x).norm()))
    assert errors[0] < 0.05 < errors[1] < errors[2]


def test_it_learns() -> None:
    twin = fake_quant(make_body("resnet8", num_classes=2, width=4), weights=4, activations=4)
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 2
    x[y == 1] += 0.5
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(twin(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_second_derivatives_and_batched_maps_pass_through() -> None:
    layer = fake_quant(nn.Sequential(nn.Conv2d(3, 2, 3)))[0]
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    layer(x)
    layer.eval()
    first = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    assert torch.autograd.grad(first.sum(), x)[0].shape == x.shape
    mapped = torch.func.vmap(lambda image: layer(image[None])[0])(x)
    assert torch.allclose(mapped, layer(x), atol=1e-6)


def test_a_copy_rounds_alike() -> None:
    layer = fake_quant(nn.Sequential(nn.Conv2d(4, 4, 3, 2, 1, groups=2, bias=False)))[0]
    assert isinstance(layer, RoundedConv2d)
    assert (layer.stride, layer.padding, layer.groups, layer.bias) == ((2, 2), (1, 1), 2, None)
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(copy.deepcopy(layer).eval()(x), layer.eval()(x))


@pytest.mark.parametrize("knob", ["weights", "activations", "ends"])
@pytest.mark.parametrize("bits", [1, 9, 16])
def test_other_bits_are_refused(knob: str, bits: int) -> None:
    with pytest.raises(InputError, match=rf"found {knob}={bits}; wanted 2 to 8 bits, or 32"):
        fake_quant(make_body("resnet8", num_classes=10), **{knob: bits})


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match="found no layer that can round"):
        fake_quant(nn.Sequential(nn.ReLU()))
    with pytest.raises(InputError, match="wanted a network made by fake_quant"):
        switch(make_body("resnet8", num_classes=10), True)


@pytest.mark.parametrize("other", ["plain20", "wrn_16_1"])
def test_the_state_of_another_network_is_refused(other: str) -> None:
    twin = fake_quant(make_body("resnet20", num_classes=10))
    with pytest.raises(InputError, match="not that of the same network without fake_quant"):
        load_plain(twin, make_body(other, num_classes=10).state_dict())
    with pytest.raises(InputError, match="shapes differ"):
        load_plain(twin, make_body("resnet20", num_classes=7).state_dict())
