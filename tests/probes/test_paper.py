"""The official protocol against a plain transcription of it, one image at a time."""

import math

import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import Tensor, nn

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes.contract import PROBES
from kdprobe.probes.paper import CHANCE, Task, paper

STD = (0.5, 1.0, 2.0)
OUT = "1"  # path of the layer of a linear network
SHORT, LONG = 6.0, 3.0  # lam at which a linear network passes the target in 60 steps, or needs 80


def bent(seed: int = 0, outputs: int = 6) -> nn.Sequential:
    """A convolution, a ReLU and a linear layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, outputs)]
        return nn.Sequential(*parts)


def steep(seed: int = 0) -> nn.Sequential:
    """One cell of 4 x 4 decides nearly all, and one nothing."""
    body = linear(20, seed=seed)
    weight = body[1].weight.data.view(20, 3, 8, 8)
    weight[..., :2, :2] *= 100
    weight[..., 6:, 6:] = 0
    return body


def looked(body: nn.Module, images: Images, layers=(OUT,), batch=192, lam=SHORT, **how):
    """What the probe sees of `body`, in double precision."""
    stage = Stage(images, {"s": network(body, STD).double()}, batch)
    how = {"units": "cells", "grid": 4, "restarts": 1, **how}
    return paper(("s",), stage, layers=layers, lam=lam, **how)


def transcribed(
    net: Network, body: nn.Module, pixels: Tensor, owner: Tensor, lam: float, purpose: int = CHANCE
) -> dict[str, object]:
    """Section by section as the released code has it: one input, `owner` its positions' units.

    `body` is the part of the network up to the layer.
    """
    chance = torch.Generator().manual_seed(purpose)
    image = net.normalised(pixels[None])
    relu, criterion = nn.ReLU(), nn.MSELoss()
    known = owner.unique()
    known = known[known >= 0].tolist()

    def noisy(sigma: Tensor) -> Tensor:
        field = torch.zeros(owner.shape, dtype=sigma.dtype)
        for place, unit in enumerate(known):
            field = torch.where(owner == unit, sigma[place], field)
        unit_noise = torch.randn(96, *image.shape[1:], generator=chance).double()
        return image + (field[:, None] if owner.dim() == 1 else field) * unit_noise

    with torch.no_grad():
        origin = relu(body(image)).flatten(1)
        small = torch.randn(96, *image.shape[1:], generator=chance).double()
        changed = relu(body(image + 0.01 * small)).flatten(1)
        sigma_f = criterion(changed, origin.expand_as(changed))
    sigma = nn.Parameter(torch.full((len(known),), 0.01, dtype=torch.float64))
    optimizer = torch.optim.SGD([sigma], lr=1e-4)
    sigmas, entropies, losses = [], [], []
    for epoch in range(80):
        sigma.data.clamp_(0.001, 1)
        penalty = sigma.log().mean() + 0.5 * math.log(2 * math.pi) + 0.5
        sigmas.append(sigma.detach().clone())
        feature = relu(body(noisy(sigma))).flatten(1)
        loss = criterion(feature, origin.expand_as(feature)) / sigma_f
        optimizer.zero_grad()
        (loss - lam * penalty).backward()
        optimizer.step()
        entropies.append(penalty.item())
        losses.append(loss.item())
        if epoch == 59:
            if max(entropies) > -2.8:
                break
            lam *= 1.5
    best = min(range(len(entropies)), key=lambda i: abs(entropies[i] + 2.8))
    return {
        "sigmas": torch.stack(sigmas),
        "units": known,
        "entropy": sigmas[best].log() + 0.5 * math.log(2 * math.pi) + 0.5,
        "steps": len(sigmas),
        "converged": 0 < best < len(sigmas) - 1,
        "distortion": losses[best],
    }


def cells(side: int = 8, grid: int = 4) -> Tensor:
    """(h, w) which cell a pixel is in."""
    row = torch.arange(side) // (side // grid)
    return row[:, None] * grid + row


def agree(found, name: str, i: int, wanted) -> None:
    """Input i of `found` is the transcription's answer."""
    entropy = found[f"entropy/{name}"][i]
    torch.testing.assert_close(entropy[wanted["units"]], wanted["entropy"], rtol=1e-9, atol=1e-9)
    assert int(entropy.isfinite().sum()) == len(wanted["units"])
    assert int(found[f"steps/{name}"][i]) == wanted["steps"]
    assert bool(found[f"converged/{name}"][i]) == wanted["converged"]
    assert float(found[f"distortion/{name}"][i]) == pytest.approx(wanted["distortion"], rel=1e-9)


@pytest.mark.parametrize("lam", [SHORT, LONG, 0.5])
@pytest.mark.parametrize(("body", "layer"), [(linear(20), "1"), (bent(), "3"), (bent(), "1")])
def test_batched_images_are_what_one_at_a_time_gives(body, layer, lam):
    images = noise_images(3)
    found = looked(body, images, (layer,), lam=lam, batch=3 * 96)
    net, upto = network(body, STD).double(), body[: int(layer) + 1]
    for i, pixels in enumerate(images.pixels):
        agree(found, layer, i, transcribed(net, upto, pixels, cells(), lam))


def test_every_step_is_that_of_the_transcription(monkeypatch):
    seen: list[Tensor] = []
    slope = Task.slope

    def spied(self, s, noise):
        seen.append(s.clone())
        return slope(self, s, noise)

    monkeypatch.setattr(Task, "slope", spied)
    images, body = noise_images(1), steep()
    looked(body, images)
    wanted = transcribed(network(body, STD).double(), body, images.pixels[0], cells(), SHORT)
    torch.testing.assert_close(torch.cat(seen), wanted["sigmas"], rtol=1e-9, atol=1e-12)
    assert float(torch.cat(seen).min()) == 0.001  # the steep cell meets the clamp


def test_scales_never_leave_the_clamp(monkeypatch):
    seen: list[Tensor] = []
    slope = Task.slope
    monkeypatch.setattr(Task, "slope", lambda *a: seen.append(a[1].clone()) or slope(*a))
    looked(steep(), noise_images(1), lam=2000.0)
    assert (float(torch.cat(seen).min()), float(torch.cat(seen).max())) == (0.001, 1.0)


MIXED = 4.0  # lam at which some images of `bent` need 80 steps


def test_images_of_one_batch_stop_each_by_itself():
    images = noise_images(6)
    together = looked(bent(), images, ("3",), lam=MIXED, batch=6 * 96)
    assert set(together["steps/3"].tolist()) == {60, 80}
    net = network(bent(), STD).double()
    for i, pixels in enumerate(images.pixels):
        agree(together, "3", i, transcribed(net, net.body, pixels, cells(), MIXED))


@pytest.mark.parametrize(("lam", "steps", "met"), [(SHORT, 60, True), (LONG, 80, True)])
def test_lam_grows_only_where_the_target_is_not_passed(lam, steps, met):
    found = looked(linear(20), noise_images(1), lam=lam)
    assert (int(found[f"steps/{OUT}"]), bool(found[f"converged/{OUT}"])) == (steps, met)
    assert float(found[f"entropy/{OUT}"].mean()) == pytest.approx(-2.8, abs=0.02)


def test_a_target_that_is_never_neared_is_told():
    found = looked(linear(20), noise_images(1), lam=0.5)
    assert (int(found[f"steps/{OUT}"]), bool(found[f"converged/{OUT}"])) == (80, False)
    assert float(found[f"entropy/{OUT}"].std()) == 0  # the start, the same for all cells


def test_parts_share_a_scale_and_the_rest_is_not_perturbed():
    plain = noise_images(2)
    parts = torch.full((2, 8, 8), -1)
    parts[:, :3], parts[:, 3:5] = 0, 2
    parts[0, 6:, :4] = 1  # the second image lacks part 1
    images = Images(plain.pixels, plain.labels, plain.classes, plain.objects, parts)
    net = network(bent(), STD).double()
    found = looked(net.body, images, ("3",), units="parts", lam=2.0, batch=400)
    assert found["entropy/3"].isnan().tolist() == [[False] * 3, [False, True, False]]
    for i, pixels in enumerate(images.pixels):
        agree(found, "3", i, transcribed(net, net.body, pixels, parts[i], 2.0))


def test_tokens():
    chance = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 5, 4, generator=chance)
    images = Images(tokens, torch.zeros(2, dtype=torch.int64), ("a",), None)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(40, 6))
    net = Network(body, (0.1,) * 4, (2.0,) * 4).eval().requires_grad_(False).double()
    found = paper(
        ("s",),
        Stage(images, {"s": net}, 192),
        layers=("3", "1"),
        units="tokens",
        grid=16,
        lam=SHORT,
        restarts=1,
    )
    assert found["entropy/3"].shape == (2, 5)
    for i, pixels in enumerate(images.pixels):
        agree(found, "3", i, transcribed(net, body, pixels, torch.arange(5), SHORT))
        agree(found, "1", i, transcribed(net, body[:2], pixels, torch.arange(5), SHORT))


def test_the_size_of_a_batch_changes_nothing():
    images = noise_images(3)
    small, odd, large = (
        looked(bent(), images, ("3",), lam=MIXED, batch=rows) for rows in (20, 205, 9999)
    )
    for name, value in large.items():
        for other in (small, odd):
            torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-9, msg=name)


def test_every_layer_is_optimised_by_itself():
    images, layers = noise_images(2), ("1", "3")
    both = looked(bent(), images, layers)
    for layer in layers:
        alone = looked(bent(), images, (layer,))
        assert alone
        assert all(torch.equal(both[name], value) for name, value in alone.items())
    assert not torch.equal(both["entropy/1"], both["entropy/3"])


def test_restarts_take_other_noises_and_the_first_is_the_answer():
    images, net = noise_images(2), network(bent(), STD).double()
    found = looked(net.body, images, ("3",), restarts=3)
    groups = found["groups/3"]
    assert groups.shape == (3, 2, 16)
    assert torch.equal(groups[0], found["entropy/3"])
    assert not torch.equal(groups[0], groups[1])
    wanted = transcribed(net, net.body, images.pixels[1], cells(), SHORT, purpose=CHANCE + 2)
    torch.testing.assert_close(groups[2, 1], wanted["entropy"], rtol=1e-9, atol=1e-9)
    once = looked(net.body, images, ("3",), restarts=1)
    assert torch.equal(once["entropy/3"], found["entropy/3"])


def test_ten_times_the_features_are_the_same_entropies():
    body, scaled = linear(20).double(), linear(20).double()
    scaled[1].weight.data *= 10
    scaled[1].bias.data *= 10
    one, ten = (looked(some, noise_images(2)) for some in (body, scaled))
    for name in one:
        torch.testing.assert_close(one[name], ten[name], rtol=1e-9, atol=1e-9, msg=name)


def test_an_image_on_which_a_layer_is_dead_has_no_entropy_and_spoils_no_other():
    images = noise_images(3)
    images.pixels[1] *= 0.01  # dark: below what the layer answers to
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    body[1].weight.data.fill_(1.0)
    body[1].bias.data.fill_(40.0)
    found = looked(body, images, batch=3 * 96)
    assert found[f"entropy/{OUT}"].isnan().all(1).tolist() == [False, True, False]
    assert found[f"steps/{OUT}"].tolist()[1] == 0
    assert found[f"converged/{OUT}"].tolist()[1] is False
    assert found[f"distortion/{OUT}"].isnan().tolist() == [False, True, False]
    net = network(body, STD).double()
    agree(found, OUT, 2, transcribed(net, body, images.pixels[2], cells(), SHORT))


def test_outputs_that_are_not_finite_have_no_entropy():
    body = linear(20)
    body[1].bias.data[0] = math.inf
    found = looked(body, noise_images(1))
    assert found[f"entropy/{OUT}"].isnan().all()
    assert not found[f"converged/{OUT}"].any()


class Blunt(nn.Module):
    """A last layer that no slope leads through."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.weight = how, nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        made = {
            "detached": lambda: x.detach(),
            "argmax": lambda: x.argmax(1, keepdim=True),
            "sign": lambda: x.sign(),
            "constant": lambda: self.weight.expand(len(x), -1),
        }
        return made[self.how]()


@pytest.mark.parametrize("how", ["detached", "argmax", "sign", "constant"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_layer_without_a_slope_is_named(how, frozen):
    body = nn.Sequential(*linear(20), Blunt(how))
    net = network(body, STD).requires_grad_(not frozen)
    with pytest.raises(InputError, match=r"no slope from layer '2'.*choose a layer before"):
        paper(
            ("s",),
            Stage(noise_images(1), {"s": net}),
            layers=("1", "2"),
            units="cells",
            grid=4,
            lam=SHORT,
            restarts=1,
        )


def test_the_network_the_images_and_chance_are_left_as_they_were():
    body = nn.Sequential(nn.ReLU(inplace=True), *linear(20))
    images, net = noise_images(2), network(body, STD)
    before, weights = images.pixels.clone(), [w.clone() for w in net.parameters()]
    state = torch.random.get_rng_state()
    paper(
        ("s",),
        Stage(images, {"s": net}, 192),
        layers=("2",),
        units="cells",
        grid=4,
        lam=SHORT,
        restarts=1,
    )
    assert torch.equal(images.pixels, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), weights, strict=True))
    assert not any(w.requires_grad or w.grad is not None for w in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_it_is_in_the_catalogue():
    assert PROBES["paper"].version == 1
