"""Attribution maps: closed forms of linear networks, and Grad-CAM derived a second time."""

from typing import Any

import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import nn
from torch.nn.functional import interpolate

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.attributions import METHODS, attributions, smaller

ASKED: dict[str, Any] = {"reference": "zeros", "steps": 8, "layers": ("0",), "side": 64}


def convolutional(seed: int = 0, **more: Any) -> nn.Sequential:
    """Two convolutions with an in-place rectifier, then two logits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, 2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 5, 3, 2, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(20, 2),
        )


def look(body: nn.Module, method: str, images: Images | None = None, **more: Any) -> Any:
    images = noise_images(5) if images is None else images
    stage = Stage(images, {"net": network(body), "teacher": network(linear(2, seed=9))})
    subjects = more.pop("subjects", ("net",))
    with torch.random.fork_rng():
        return attributions(subjects, stage, method=method, **ASKED | more)


def slopes(images: Images) -> tuple[torch.Tensor, torch.Tensor]:
    """What a linear network sees, and its weights for every image's label: (n, 3, h, w) both."""
    weight = linear(2)[1].weight.view(2, 3, 8, 8)
    return images.pixels, weight[images.labels]


def test_of_a_linear_network_integrated_gradients_are_pixel_times_weight():
    images = noise_images(5)
    x, w = slopes(images)
    seen = look(linear(2), "integrated_gradients", images)
    assert torch.allclose(seen["maps/integrated_gradients"], (x * w).sum(1), atol=1e-6)
    assert torch.allclose(seen["change"], (x * w).sum((1, 2, 3)), atol=1e-5)
    assert seen["gap"].abs().max() < 1e-5
    mean = x.mean((0, 2, 3), keepdim=True)
    seen = look(linear(2), "integrated_gradients", images, reference="mean")
    assert torch.allclose(seen["maps/integrated_gradients"], ((x - mean) * w).sum(1), atol=1e-6)


def test_of_a_linear_network_so_is_input_x_gradient():
    images = noise_images(5)
    x, w = slopes(images)
    seen = look(linear(2), "input_x_gradient", images)
    assert torch.allclose(seen["maps/input_x_gradient"], (x * w).sum(1), atol=1e-6)


def test_of_a_linear_network_occlusion_is_the_mean_sum_of_the_windows():
    images = noise_images(5)
    x, w = slopes(images)
    adds = (x * w).sum(1)
    total, count = torch.zeros_like(adds), torch.zeros_like(adds)
    for i in range(7):  # windows of 2 pixels, moved by 1
        for j in range(7):
            here = (slice(None), slice(i, i + 2), slice(j, j + 2))
            total[here] += adds[here].sum((1, 2))[:, None, None]
            count[here] += 1
    seen = look(linear(2), "occlusion", images)
    assert torch.allclose(seen["maps/occlusion"], total / count, atol=1e-5)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_grad_cam_is_its_definition_also_before_an_in_place_rectifier(layer):
    images, body = noise_images(5), convolutional()
    at = int(layer) + 1
    x = (images.pixels - 0.5).requires_grad_()
    features = body[:at](x)
    logits = body[at:](features.clone())
    score = logits.gather(1, images.labels[:, None]).sum()
    (slope,) = torch.autograd.grad(score, features)
    wanted = (slope.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True)
    wanted = interpolate(wanted, size=(8, 8), mode="bilinear", align_corners=False)[:, 0]
    seen = look(convolutional(), "grad_cam", images, layers=(layer, "4", "5"))
    assert set(seen) == {"target", f"maps/{layer}"}, "layers without places have no map"
    assert torch.allclose(seen[f"maps/{layer}"], wanted, atol=1e-6)


def test_one_place_is_no_place():
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    assert set(look(body, "grad_cam", layers=("0", "1"))) == {"target", "maps/0"}


def test_integrated_gradients_come_near_the_change_of_the_logit_with_more_steps():
    few, many = (look(convolutional(), "integrated_gradients", steps=n) for n in (2, 64))
    assert many["gap"].abs().mean() < 0.1 * few["gap"].abs().mean() + 1e-6
    whole = many["maps/integrated_gradients"].sum((1, 2))
    assert torch.allclose(whole, many["change"] + many["gap"], atol=1e-6)


@pytest.mark.parametrize("method", list(METHODS))
def test_the_batch_changes_nothing_and_all_is_left_as_it_was(method):
    images = noise_images(5)
    net = network(convolutional())
    before = [(p.requires_grad, p.clone()) for p in net.parameters()]
    seen = [
        attributions(("net",), Stage(images, {"net": net}, batch), method=method, **ASKED)
        for batch in (128, 3)
    ]
    for name, values in seen[0].items():
        assert torch.allclose(values, seen[1][name], atol=1e-6), name
        assert not values.requires_grad
    assert not images.pixels.requires_grad
    for p, (flag, value) in zip(net.parameters(), before, strict=True):
        assert (p.requires_grad, p.grad) == (flag, None)
        assert torch.equal(p, value)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_the_class_is_the_teachers_or_the_label():
    images = noise_images(40)
    seen = look(linear(2), "input_x_gradient", images, subjects=("net", "teacher"))
    told = network(linear(2, seed=9))(images.pixels).argmax(1)
    assert torch.equal(seen["target"], told)
    assert 0 < (told != images.labels).sum() < 40
    w = linear(2)[1].weight.view(2, 3, 8, 8)[told]
    wanted = (images.pixels * w).sum(1)
    assert torch.allclose(seen["maps/input_x_gradient"], wanted, atol=1e-6)
    assert torch.equal(look(linear(2), "input_x_gradient", images)["target"], images.labels)


def test_large_maps_are_taken_down():
    seen = look(linear(2), "input_x_gradient", side=4)["maps/input_x_gradient"]
    whole = look(linear(2), "input_x_gradient")["maps/input_x_gradient"]
    assert torch.allclose(seen, whole.view(5, 4, 2, 4, 2).mean((2, 4)), atol=1e-6)
    assert smaller(torch.zeros(1, 3, 9), 4).shape == (1, 3, 4)


def test_sequences_have_no_maps():
    words = Images(torch.rand(3, 4, 2), torch.zeros(3, dtype=torch.int64), ("a", "b"), None)
    with pytest.raises(InputError, match=r"found inputs of shape \(4, 2\).*want images"):
        look(linear(2), "occlusion", words)


class Detached(nn.Module):
    """Lets no gradient through."""

    def __init__(self) -> None:
        super().__init__()
        self.body = linear(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x).detach()


@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient"])
def test_a_network_without_gradients_is_refused(method):
    with pytest.raises(InputError, match=f"{method} cannot explain.*leave the method out"):
        look(Detached(), method)


def test_it_can_still_be_covered_up():
    seen = look(Detached(), "occlusion")["maps/occlusion"]
    assert torch.equal(seen, look(linear(2), "occlusion")["maps/occlusion"])


def test_a_batch_that_does_not_fit_is_halved(monkeypatch):
    whole = METHODS["input_x_gradient"]

    def narrow(how: Any, name: str, pixels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 2:
            raise RuntimeError("not enough memory: you tried to allocate much")
        return whole(how, name, pixels, target)

    wanted = look(linear(2), "input_x_gradient")["maps/input_x_gradient"]
    monkeypatch.setitem(METHODS, "input_x_gradient", narrow)
    found = look(linear(2), "input_x_gradient")["maps/input_x_gradient"]
    assert torch.allclose(found, wanted, atol=1e-6)
