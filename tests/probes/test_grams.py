"""Gram matrices against plain products of features, and what must not change them."""

import numpy as np
import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn

from kdprobe.errors import InputError
from kdprobe.probes import grams as probe
from kdprobe.probes.grams import gram, grams


def net(seed: int = 0, *, inplace: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        conv, norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        return nn.Sequential(conv, norm, nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(384, 5))


def looked(body: nn.Module, layers=("1", "4"), images=12, batch=128) -> dict[str, Tensor]:
    return grams(["one"], Stage(noise_images(images), {"one": network(body)}, batch), layers=layers)


def features(body: nn.Module, layer: str, images: int = 12) -> Tensor:
    """What the layer puts out, by running the modules before it one by one."""
    x = noise_images(images).pixels.double() - 0.5
    for module in list(body.eval().double().children())[: int(layer) + 1]:
        x = module(x)
    return x.flatten(1).detach()


def test_they_are_the_products_of_centred_features():
    seen = looked(net())
    assert seen["grams"].dtype == torch.float64
    assert seen["widths"].tolist() == [384, 5]
    assert seen["labels"].tolist() == [0, 1] * 6
    for place, layer in enumerate(("1", "4")):
        x = features(net(), layer)
        wanted = (x - x.mean(0)) @ (x - x.mean(0)).T
        torch.testing.assert_close(seen["grams"][place], wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(seen["norms"][place], x.norm(dim=1), rtol=1e-5, atol=0)


def test_norms_and_grams_give_the_products_of_uncentred_features():
    seen = looked(net())
    x = features(net(), "4")
    k, r = seen["grams"][1], seen["norms"][1]
    d = k.diagonal()[:, None] + k.diagonal()[None, :] - 2 * k
    products = (r[:, None].square() + r[None, :].square() - d) / 2
    torch.testing.assert_close(products, x @ x.T, rtol=1e-4, atol=1e-4)


def test_neither_batches_nor_groups_of_layers_nor_blocks_of_columns_matter(monkeypatch):
    whole = looked(net())
    monkeypatch.setattr(probe, "COLUMNS", 7)
    monkeypatch.setattr(probe, "budget", lambda device: 1)
    parted = looked(net(), batch=5)
    for name, values in whole.items():
        torch.testing.assert_close(parted[name], values, rtol=1e-5, atol=1e-6)


def test_layers_come_in_the_order_asked():
    one, two = looked(net(), ("1", "4")), looked(net(), ("4", "1"))
    for name in ("grams", "norms", "widths"):
        torch.testing.assert_close(one[name].flip(0), two[name])


def test_an_in_place_step_after_a_tap_changes_nothing():
    one, two = (looked(net(inplace=inplace), ("1", "2")) for inplace in (False, True))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["grams"][0], one["grams"][1])


def test_a_common_offset_costs_no_digits():
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    x = (x * 2**6).round() / 2**6  # exact in single precision with and without the offset
    plain, moved = gram(x)[0], gram(x + 2**12)[0]
    torch.testing.assert_close(plain, moved, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.3, 7.7, 1e3])
def test_a_layer_that_gives_every_image_the_same_is_all_zero(value):
    constant = nn.Linear(5, 4)
    constant.weight.data.zero_()
    constant.bias.data = value * torch.tensor([1.0, 1 / 3, 0.1, 0.7])
    seen = looked(nn.Sequential(*net(), constant), ("4", "5"))
    assert seen["grams"][1].eq(0).all()
    assert seen["grams"][0].abs().sum() > 0


def test_rounding_is_no_variation():
    unit = 1000 * torch.finfo(torch.float32).eps
    noise = torch.randint(-2, 3, (12, 7), generator=torch.Generator().manual_seed(0))
    assert gram(1000 + unit * noise)[0].eq(0).all()
    assert gram(1000 + 100 * unit * noise)[0].abs().sum() > 0


def test_sequences_and_layers_of_one_number_are_features_too():
    class Tokens(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(2).transpose(1, 2)

    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0]

    seen = looked(nn.Sequential(Tokens(), First()), ("0", "1"))
    assert seen["widths"].tolist() == [192, 1]
    x = noise_images(12).pixels[:, 0, 0, 0].double() - 0.5
    wanted = torch.outer(x - x.mean(), x - x.mean())
    np.testing.assert_allclose(seen["grams"][1], wanted, atol=1e-6)


def test_features_that_are_no_numbers_are_refused():
    body = net()
    body[4].bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"found features of layer '4' .* wanted .* take it out"):
        looked(body)
