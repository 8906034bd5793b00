"""Features made small: means, deviations, projections, and which layers."""

import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn

from kdprobe.probes.readout import pooled, pooled_features


def chance(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "axes", "wide"),
    [((5, 3, 4, 2), (2, 3), 3), ((5, 7, 3), (1,), 3), ((5, 3, 2, 2, 2), (2, 3, 4), 3)],
)
def test_channels_are_averaged_over_places(shape, axes, wide):
    x = chance(*shape)
    alone, both = pooled(x, False), pooled(x, True)
    torch.testing.assert_close(alone, x.mean(axes))
    torch.testing.assert_close(both[:, :wide], alone)
    torch.testing.assert_close(both[:, wide:] ** 2, x.square().mean(axes) - alone**2)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 3, 1, 1), (5, 1, 3)])
def test_what_has_one_place_is_taken_as_it_is(shape):
    x = chance(*shape)
    assert torch.equal(pooled(x, True), x.view(5, -1))


def looked(body: nn.Module, layers, rows: int = 128, **settings) -> dict[str, Tensor]:
    stage = Stage(noise_images(12), {"one": network(body)}, batch=rows)
    chosen = {"width": 256, "spread": True, **settings}
    return dict(pooled_features(["one"], stage, layers=layers, **chosen))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3)
    return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(216, 2))


def names(seen: dict[str, Tensor]) -> list[str]:
    return bytes(seen["names"].tolist()).decode().split("\n")


@pytest.mark.parametrize("rows", [128, 5])
def test_layers_come_in_order_and_an_in_place_step_does_not_touch_them(rows):
    seen, body = looked(net(), ("0", "2", "logits"), rows), net()
    assert names(seen) == ["0", "2", "logits"]
    x = noise_images(12).pixels - 0.5
    with torch.no_grad():
        torch.testing.assert_close(seen["features.0"], pooled(body[0](x), True))
        torch.testing.assert_close(seen["features.1"], body[:3](x))
        torch.testing.assert_close(seen["features.2"], body(x))
    assert seen["labels"].tolist() == [0, 1] * 6


def test_blocks_stand_in_where_a_network_names_only_its_output():
    assert names(looked(net(), ("logits",))) == ["0", "logits"]
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(192, 192) for _ in range(30)), nn.Linear(192, 2))
    assert names(looked(deep, ("logits",))) == [*map(str, range(1, 31, 3)), "logits"]
    single = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert names(looked(single, ("logits",))) == ["logits"]


def test_wide_layers_are_projected_and_keep_their_inner_products():
    seen = looked(net(), ("2", "logits"), width=128)
    whole = looked(net(), ("2", "logits"))["features.0"]
    small = seen["features.0"]
    assert small.shape == (12, 128)
    assert seen["features.1"].shape == (12, 2), "narrow ones are left as they are"
    ratios = small.square().sum(1) / whole.square().sum(1)
    assert 0.7 < float(ratios.mean()) < 1.3
    assert torch.equal(looked(net(), ("2", "logits"), width=216)["features.0"], whole)
    assert torch.equal(small, looked(net(), ("2", "logits"), width=128)["features.0"])
