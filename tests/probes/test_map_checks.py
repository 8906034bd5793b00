"""The worth of maps: a linear network's own are perfect, others are told apart."""

from typing import Any

import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import nn

from kdprobe.probes.attributions import attributions
from kdprobe.probes.map_checks import CHANGES, SQUARES, _squares, map_checks

ASKED: dict[str, Any] = {"reference": "zeros", "steps": 8, "layers": ("0",), "side": 64}
ASKED |= {"squares": 12, "changes": 4, "radius": 0.02}


def convolutional() -> nn.Sequential:
    """A convolution, a bend, two logits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Conv2d(3, 4, 3, 2, padding=1)
        return nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))


def look(body: nn.Module, method: str, batch: int = 128, **more: Any) -> Any:
    stage = Stage(noise_images(6), {"net": network(body)}, batch)
    return map_checks(("net",), stage, method=method, **ASKED | more)


@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient"])
def test_a_linear_network_is_told_by_its_own_maps_alone(method):
    seen = look(linear(2), method)
    assert seen[f"unexplained/{method}"].max() < 1e-5
    assert seen[f"by_chance/{method}"].mean() > 0.3


def test_what_is_left_unexplained_is_one_less_the_squared_cosine():
    """By hand: with its best scale, a map leaves 1 - cos^2 between its sums and the changes."""
    images, net = noise_images(6), network(convolutional())
    stage = Stage(images, {"net": net})
    seen = map_checks(("net",), stage, method="grad_cam", **ASKED)
    asked = {name: ASKED[name] for name in ("reference", "steps", "layers", "side")}
    maps = attributions(("net",), stage, method="grad_cam", **asked)["maps/0"]
    holes = _squares(6, 12, images.pixels, stage.generator(SQUARES))
    with torch.no_grad():
        for i, x in enumerate(images.pixels):
            copies = torch.where(holes[i][:, None], 0.0, x)
            drop = (net(x[None]) - net(copies))[:, images.labels[i]]
            for name, own in (("unexplained", maps[i]), ("by_chance", maps[(i + 1) % 6])):
                told = (holes[i] * own).sum((1, 2))
                cosine = (told @ drop) / (told.norm() * drop.norm())
                assert seen[f"{name}/0"][i] == pytest.approx(1 - float(cosine) ** 2, abs=1e-4)


def test_the_sensitivity_of_a_linear_networks_map_is_known():
    images = noise_images(6)
    seen = look(linear(2), "input_x_gradient")["sensitivity/input_x_gradient"]
    w = linear(2)[1].weight.view(2, 3, 8, 8)[images.labels]
    noise = torch.empty(6, 4, 3, 8, 8).uniform_(
        -0.02, 0.02, generator=torch.Generator().manual_seed(CHANGES)
    )
    moved = (images.pixels[:, None] + noise).clamp(0, 1) - images.pixels[:, None]
    moved, whole = (moved * w[:, None]).sum(2), (images.pixels * w).sum(1)
    wanted = (moved.flatten(2).norm(dim=2) / whole.flatten(1).norm(dim=1)[:, None]).max(1).values
    assert torch.allclose(seen, wanted, atol=1e-5)


def test_a_network_that_hears_nothing_leaves_all_unexplained():
    body = linear(2)
    body[1].weight.data.zero_()
    seen = look(body, "occlusion")
    assert seen["unexplained/occlusion"].tolist() == [1.0] * 6
    assert seen["sensitivity/occlusion"].tolist() == [0.0] * 6


@pytest.mark.parametrize("method", ["grad_cam", "occlusion", "integrated_gradients"])
def test_the_batch_changes_nothing_and_no_chance_is_drawn(method):
    chance = torch.get_rng_state()
    one, two = (look(convolutional(), method, batch) for batch in (128, 5))
    assert torch.equal(torch.get_rng_state(), chance)
    for name, values in one.items():
        assert torch.allclose(values.float(), two[name].float(), atol=1e-4), name
