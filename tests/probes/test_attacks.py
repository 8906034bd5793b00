"""Attacks against pencils: on linear networks every end is known beforehand."""

import math

import pytest
import torch
from stage import Stage, linear, network, noise_images
from torch import Tensor, nn
from torch.nn import functional as F

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.models.contract import Network
from kdprobe.probes import attacks
from kdprobe.probes.attacks import (
    boundary_attacks,
    bounded,
    projected,
    to_boundary,
    transfer_attack,
)

SIDE = 8
SIZE = 3 * SIDE * SIDE


def straight(weight: Tensor, bias: Tensor) -> Network:
    """logits = weight (c, d) pixels + bias (c,), of pixels as they are."""
    body = linear(len(weight), side=SIDE)
    with torch.no_grad():
        body[1].weight.copy_(weight)
        body[1].bias.copy_(bias)
    return Network(body, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval().requires_grad_(False)


def grey(count: int, labels: Tensor, classes: int) -> Images:
    """Pixels near the middle, so that no small step leaves [0, 1]."""
    chance = torch.Generator().manual_seed(3)
    pixels = 0.5 + 0.1 * (torch.rand(count, 3, SIDE, SIDE, generator=chance) - 0.5)
    return Images(pixels, labels, tuple(map(str, range(classes))), None)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear_case(classes: int = 4, count: int = 6) -> tuple[Network, Images, Tensor]:
    """A linear network that gives every image its label, the images, and the weights."""
    weight = 0.3 * drawn(0, classes, SIZE)
    net = straight(weight, -weight.sum(1) / 2)
    data = grey(count, torch.zeros(count, dtype=torch.int64), classes)
    right = Images(data.pixels, net(data.pixels).argmax(1), data.classes, None)
    return net, right, weight


def ends(net: Network, data: Images, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Source, aim and the way (m, d) from one to the other, for every wrong class."""
    wrong = [[k for k in range(len(weight)) if k != y] for y in data.labels.tolist()]
    aim = torch.tensor(wrong).flatten()
    source = data.labels.repeat_interleave(len(weight) - 1)
    return source, aim, weight[aim] - weight[source]


def test_the_way_to_a_linear_boundary_is_one_perpendicular_step():
    """d = (z_b - z_k + 1e-4) (w_k - w_b) / |w_k - w_b|^2, whatever the number of steps."""
    net, data, weight = linear_case()
    source, aim, way = ends(net, data, weight)
    start = data.pixels.repeat_interleave(3, dim=0)
    z = net(start)
    gap = z.gather(1, source[:, None]) - z.gather(1, aim[:, None])
    wanted = (gap + 1e-4) * way / way.square().sum(1, keepdim=True)
    for steps in (1, 5):
        moved, _, rest = to_boundary(net, start, source, aim, steps=steps, eta=0.0)
        torch.testing.assert_close(moved.flatten(1), wanted, atol=1e-4, rtol=1e-3)
        assert float(rest.max()) < 1e-3 / float(gap.min())


def test_a_set_eta_shrinks_the_gap_of_a_linear_network_geometrically():
    """After T steps (gap + 1e-4) (1 - eta |w|)^T is left; from eta = 2 / |w| on it grows."""
    net, data, weight = linear_case()
    source, aim, way = ends(net, data, weight)
    start = data.pixels.repeat_interleave(3, dim=0)
    z = net(start)
    gap = (z.gather(1, source[:, None]) - z.gather(1, aim[:, None]))[:, 0]
    steep = way.norm(dim=1)
    for eta in (0.3 / float(steep.max()), 1.5 / float(steep.max())):
        moved, _, rest = to_boundary(net, start, source, aim, steps=4, eta=eta)
        left = (1 - eta * steep) ** 4
        length = (gap + 1e-4) * (1 - left) / steep
        torch.testing.assert_close(moved.flatten(1).norm(dim=1), length, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            rest, ((gap + 1e-4) * left - 1e-4).abs() / gap, rtol=0.01, atol=1e-3
        )
    _, _, rest = to_boundary(net, start, source, aim, steps=4, eta=2.3 / float(steep.min()))
    assert float(rest.min()) > 1


def test_the_cosine_of_linear_networks_is_that_of_their_weights():
    """Two classes: all attacks go along w_1 - w_0, and the second network's is turned by 60°."""
    one = F.normalize(drawn(1, SIZE), dim=0)
    apart = drawn(2, SIZE)
    apart = F.normalize(apart - apart @ one * one, dim=0)
    turned = math.cos(math.pi / 3) * one + math.sin(math.pi / 3) * apart
    nets = {}
    for name, way in {"teacher": one, "same": one, "turned": turned}.items():
        weight = torch.stack([-2 * way, 2 * way])
        nets[name] = straight(weight, torch.tensor([0.1, -0.1]) - weight.sum(1) / 2)
    data = grey(7, torch.zeros(7, dtype=torch.int64), 2)
    stage = Stage(data, nets)
    seen = boundary_attacks(list(nets), stage, targets=9, steps=3, eta=0.0)
    assert seen["cosines"].shape == (3, 3, 7, 1)
    away = seen["norms"][:, :, 0] > 1e-3  # nearer to the boundary, the sign is the image's
    both = (seen["right"][0] * seen["right"][2]).bool() & away.all(0)
    assert both.sum() >= 3
    torch.testing.assert_close(seen["cosines"][0, 1], torch.ones(7, 1))
    torch.testing.assert_close(seen["cosines"][0, 2, both], torch.full((int(both.sum()), 1), 0.5))
    torch.testing.assert_close(seen["cosines"], seen["cosines"].transpose(0, 1))
    torch.testing.assert_close(seen["strange"][1].abs(), torch.ones(7, 1))


def test_an_attack_aims_at_the_first_networks_likeliest_wrong_classes():
    net, data, _ = linear_case(classes=5)
    z = net(data.pixels)
    found = attacks._likeliest(z, data.labels, 2)
    for logits, label, aims in zip(z.tolist(), data.labels.tolist(), found.tolist(), strict=True):
        order = sorted((k for k in range(5) if k != label), key=lambda k: -logits[k])
        assert aims == order[:2]
    assert attacks._likeliest(z, data.labels, 99).shape == (6, 4)


def small(seed: int = 0, classes: int = 4) -> Network:
    """Curved, and each image for itself."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(36, 16),
            nn.GELU(),
            nn.Linear(16, classes),
        )
    with torch.no_grad():
        for weight in body.parameters():  # so that it is not the biases that decide
            weight.mul_(3 if weight.dim() > 1 else 0)
    return network(body)


@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_batches_and_memory_change_nothing(monkeypatch, eta):
    nets = {"teacher": small(0), "student": small(1)}
    data = noise_images(5, side=SIDE)
    asked = {"targets": 3, "steps": 3, "eta": eta}
    whole = boundary_attacks(list(nets), Stage(data, nets), **asked)
    parts = boundary_attacks(list(nets), Stage(data, nets, batch=2), **asked)
    for name, values in whole.items():
        torch.testing.assert_close(parts[name], values, rtol=1e-4, atol=1e-5, msg=name)
    monkeypatch.setattr(attacks, "budget", lambda device: 1)
    groups = boundary_attacks(list(nets), Stage(data, nets), **asked)
    for name in ("right", "left", "norms", "cosines"):
        torch.testing.assert_close(groups[name], whole[name], rtol=1e-4, atol=1e-5, msg=name)
    assert groups["strange"].abs().max() < 1, "never with the image itself"


def test_the_other_image_is_the_next_one():
    nets = {"teacher": small(0), "student": small(1)}
    data = noise_images(3, side=SIDE)
    seen = boundary_attacks(list(nets), Stage(data, nets), targets=1, steps=2, eta=0.0)
    moves = []
    for net in nets.values():
        aim = attacks._likeliest(nets["teacher"](data.pixels), data.labels, 1)[:, 0]
        moved, _, _ = to_boundary(net, data.pixels, data.labels, aim, steps=2, eta=0.0)
        moves.append(moved.flatten(1))
    wanted = F.cosine_similarity(moves[1], moves[0].roll(1, dims=0))
    torch.testing.assert_close(seen["strange"][1, :, 0], wanted)


def test_where_there_is_no_slope_nothing_moves():
    flat = straight(torch.zeros(3, SIZE), torch.tensor([1.0, 0.0, 0.0]))
    data = grey(3, torch.zeros(3, dtype=torch.int64), 3)
    seen = boundary_attacks(["flat"], Stage(data, {"flat": flat}), targets=2, steps=2, eta=0.0)
    assert all(bool(torch.isfinite(values).all()) for values in seen.values())
    assert float(seen["norms"].max()) == 0
    assert float(seen["left"].max()) == 0


def test_where_the_slope_almost_vanishes_the_step_is_no_longer_than_the_input():
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        body[1].weight.mul_(1e-9)
        body[1].bias.copy_(torch.tensor([1.0, -1.0]))
    net = Network(body, (0.0,), (1.0,)).eval().requires_grad_(False)
    tokens = drawn(0, 4, 3, 4)
    zero, one = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    moved, gone, rest = to_boundary(net, tokens, zero, one, steps=1, eta=0.0)
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), tokens.flatten(1).norm(dim=1))
    assert not gone.any()
    torch.testing.assert_close(rest, torch.ones(4))


def test_an_attack_may_end_in_a_third_class():
    """Between two classes of the background the first of all may win: the source is left."""
    weight = torch.zeros(3, SIZE)
    weight[0, :64], weight[1, 64:128], weight[2, :128] = 0.1, 0.1, 0.06
    net = straight(weight, torch.tensor([0.5, 0.0, 0.0]))
    data = grey(3, torch.zeros(3, dtype=torch.int64), 3)
    aim = torch.ones(3, dtype=torch.int64)
    moved, gone, _ = to_boundary(net, data.pixels, data.labels, aim, steps=2, eta=0.0)
    ends = net(data.pixels + moved).argmax(1)
    assert ends.tolist() == [2, 2, 2]
    assert gone.all()


def test_the_start_and_the_noise_are_draws_of_their_own():
    nets, data = {"net": small(0)}, noise_images(64, side=SIDE)
    stage = Stage(data, nets)
    seen = transfer_attack(["net"], stage, eps=0.5, step=0.1, steps=0)
    start, noise = (attacks._uniform(data.pixels, stage.generator(draw)) for draw in (60, 61))
    for name, moved in (("attacked", 0.5 * start), ("noisy", 0.5 * noise.sign())):
        right = nets["net"]((data.pixels + moved).clamp(0, 1)).argmax(1) == data.labels
        assert torch.equal(seen[name][0], right.float())
    assert not torch.equal(seen["attacked"], seen["noisy"])


def test_an_attack_stays_among_pixels_but_sequences_have_no_bounds():
    assert bounded(torch.tensor([-1.0, 2.0]).view(1, 1, 1, 2)).flatten().tolist() == [0, 1]
    assert bounded(torch.tensor([-1.0, 2.0]).view(1, 1, 2)).flatten().tolist() == [-1, 2]
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    net = Network(body, (0.0,), (1.0,)).eval().requires_grad_(False)
    data = Images(5 * drawn(0, 4, 3, 4), torch.tensor([0, 1, 0, 1]), ("a", "b"), None)
    stage = Stage(data, {"net": net})
    seen = boundary_attacks(["net"], stage, targets=1, steps=2, eta=0.0)
    assert float(seen["rest"].max()) < 1e-2
    assert set(transfer_attack(["net"], stage, eps=0.1, step=0.1, steps=1)) == {
        "right",
        "attacked",
        "noisy",
    }


def test_projected_gradient_on_a_linear_network_ends_in_a_corner():
    """Two classes: the slope's sign is that of w_other - w_label in every pixel, at every point."""
    weight = drawn(5, 2, SIZE)
    net = straight(weight, -weight.sum(1) / 2)
    data = noise_images(4, side=SIDE)
    way = (weight[1 - data.labels] - weight[data.labels]).view_as(data.pixels)
    start = torch.zeros_like(data.pixels)
    found = projected(net, data.pixels, data.labels, start, eps=0.03, step=0.01, steps=5)
    torch.testing.assert_close(found, (data.pixels + 0.03 * way.sign()).clamp(0, 1))
    once = projected(net, data.pixels, data.labels, start, eps=0.03, step=0.01, steps=1)
    torch.testing.assert_close(once, (data.pixels + 0.01 * way.sign()).clamp(0, 1))
    none = projected(net, data.pixels, data.labels, start - 1, eps=0.03, step=0.01, steps=0)
    torch.testing.assert_close(none, (data.pixels - 0.03).clamp(0, 1))


def test_equal_networks_are_fooled_together_and_others_are_shown_the_same_images():
    nets = {"teacher": small(0), "same": small(0), "other": small(2)}
    data = noise_images(24, side=SIDE)
    named = Images(data.pixels, nets["teacher"](data.pixels).argmax(1), tuple("abcd"), None)
    stage = Stage(named, nets)
    how = {"eps": 0.05, "step": 0.01, "steps": 8}
    seen = transfer_attack(list(nets), stage, **how)
    assert seen["right"][0].min() == 1
    assert 0 < float(seen["attacked"][0].mean()) < 1
    for name in ("right", "attacked", "noisy"):
        assert torch.equal(seen[name][0], seen[name][1])
    assert not torch.equal(seen["attacked"][0], seen["attacked"][2])
    start = attacks._uniform(named.pixels, stage.generator(60))
    moved = projected(nets["teacher"], named.pixels, named.labels, start, **how)
    other = nets["other"](moved).argmax(1) == named.labels
    assert torch.equal(seen["attacked"][2], other.float())
    signs = attacks._uniform(named.pixels, stage.generator(61)).sign()
    noisy = nets["other"]((named.pixels + 0.05 * signs).clamp(0, 1)).argmax(1) == named.labels
    assert torch.equal(seen["noisy"][2], noisy.float())
    again = transfer_attack(list(nets), Stage(named, nets, batch=7), **how)
    assert all(torch.equal(again[name], values) for name, values in seen.items())


def test_a_network_without_a_gradient_is_refused():
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :2]

    stage = Stage(noise_images(2, side=SIDE), {"cut": network(Cut())})
    with pytest.raises(InputError, match="no gradient in its pixels"):
        boundary_attacks(["cut"], stage, targets=1, steps=1, eta=0.0)
    with pytest.raises(InputError, match="no gradient in its pixels"):
        transfer_attack(["cut"], stage, eps=0.1, step=0.1, steps=1)


def test_projected_gradient_is_that_of_another_library():
    foolbox = pytest.importorskip("foolbox")
    net, data = small(3), noise_images(8, side=SIDE)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.003, steps=20, random_start=False)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    wanted = attack.run(
        model, data.pixels, foolbox.criteria.Misclassification(data.labels), epsilon=0.031
    )
    start = torch.zeros_like(data.pixels)
    found = projected(net, data.pixels, data.labels, start, eps=0.031, step=0.003, steps=20)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
