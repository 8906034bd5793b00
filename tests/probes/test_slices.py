"""Slices of the loss: a quadratic in closed form, filter norms, and a network left as it was."""

import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cross_entropy

from kdprobe.models.contract import Network, make_body
from kdprobe.probes.slices import (
    loss_of,
    random_direction,
    slice_1d,
    slice_2d,
    steps_within,
    walk,
)


def resnet(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return network(make_body("resnet8", num_classes=2, width=2))


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def state(net: nn.Module):
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    return weights, modes, [p.requires_grad for p in net.parameters()], torch.get_rng_state()


def test_a_quadratic_is_walked_in_closed_form():
    net = network(nn.Linear(4, 3, bias=False)).double()
    w = net.body.weight.clone()
    a = torch.rand(3, 4, generator=chance()).double()
    one, two = (random_direction(net.body, chance(seed)) for seed in (1, 2))

    def loss() -> Tensor:
        return (a * net.body.weight.square()).sum()

    places = [[(x, one), (y, two)] for x in (-1.0, 0.0, 0.5) for y in (-0.3, 0.0, 2.0)]
    found = walk(net, places, loss)
    d, e = one["weight"], two["weight"]
    for value, ((x, _), (y, _)) in zip(found.tolist(), places, strict=True):
        wanted = (a * w * w).sum() + 2 * (a * w * (x * d + y * e)).sum()
        wanted = wanted + (a * (x * d + y * e) ** 2).sum()
        assert value == pytest.approx(float(wanted), rel=1e-12)
    assert torch.equal(net.body.weight, w)


def test_every_filter_of_a_direction_is_as_long_as_the_networks():
    net = resnet()
    line = random_direction(net.body, chance())
    parameters = dict(net.body.named_parameters())
    assert set(line) == {name for name, weight in parameters.items() if weight.dim() > 1}
    assert {"bn1.weight", "fc.bias"} <= set(parameters) - set(line)
    for name, way in line.items():
        sides = tuple(range(1, way.dim()))
        torch.testing.assert_close(
            vector_norm(way, dim=sides), vector_norm(parameters[name], dim=sides)
        )


def test_a_step_of_one_moves_every_filter_by_its_own_length():
    net = resnet()
    before = {name: weight.clone() for name, weight in net.body.named_parameters()}
    moved = {}

    def loss() -> Tensor:
        for name, weight in net.body.named_parameters():
            moved[name] = (weight - before[name]).flatten(1 if weight.dim() > 1 else 0).norm(dim=-1)
        return torch.zeros(())

    walk(net, [[(1.0, random_direction(net.body, chance()))]], loss)
    for name, weight in before.items():
        wanted = weight.flatten(1).norm(dim=1) if weight.dim() > 1 else torch.zeros(())
        torch.testing.assert_close(moved[name], wanted, rtol=1e-5, atol=1e-7)


def test_a_filter_without_length_stays():
    net = network(nn.Linear(4, 3))
    net.body.weight[1] = 0
    assert random_direction(net.body, chance())["weight"][1].eq(0).all()


def test_equal_generators_give_networks_of_one_shape_the_same_draw():
    one, two = (random_direction(resnet(seed).body, chance()) for seed in (0, 1))
    for name in one:
        sides = tuple(range(1, one[name].dim()))
        units = [d[name] / vector_norm(d[name], dim=sides, keepdim=True) for d in (one, two)]
        torch.testing.assert_close(*units)


@pytest.mark.parametrize("radius", [1.0, 0.3, 1 / 3, 2.0])
def test_the_middle_of_an_odd_slice_is_the_network_itself(radius):
    for points in range(3, 40, 2):
        steps = steps_within(radius, points)
        assert steps[points // 2] == 0
        assert steps[-1] == pytest.approx(radius)
        torch.testing.assert_close(
            steps.diff(), torch.full((points - 1,), 2 * radius / (points - 1))
        )


def test_the_centre_is_the_networks_own_loss():
    net, data = resnet(), noise_images(10, side=32)
    wanted = cross_entropy(net(data.pixels), data.labels)
    stage = Stage(data, {"net": net}, batch=4)
    line = slice_1d(["net"], stage, radius=1.0, points=5, directions=3)
    plane = slice_2d(["net"], stage, radius=1.0, points=3)
    assert line["loss"].shape == (3, 5)
    assert plane["loss"].shape == (3, 3)
    assert int(line["images"]) == 10
    assert torch.equal(line["loss"][:, 2], line["loss"][0, 2].expand(3))
    assert torch.equal(plane["loss"][1, 1], line["loss"][0, 2])
    torch.testing.assert_close(line["loss"][0, 2], wanted)
    assert line["loss"][:, 0].ne(line["loss"][:, 4]).all()


def test_a_plane_is_walked_row_by_row_along_the_second_direction():
    net, data = resnet(), noise_images(4, side=32)
    stage = Stage(data, {"net": net})
    plane = slice_2d(["net"], stage, radius=0.5, points=3)
    draw = stage.generator(3)
    one, two = (random_direction(net.body, draw) for _ in range(2))
    loss = loss_of("net", stage, net)
    for row, column, place in ((2, 1, [(0.5, two)]), (1, 0, [(-0.5, one)])):
        torch.testing.assert_close(plane["loss"][row, column], walk(net, [place], loss)[0])


def test_the_loss_is_a_mean_over_images_not_over_batches():
    net, data = resnet(), noise_images(10, side=32)
    losses = [loss_of("net", Stage(data, {"net": net}, batch=size), net)() for size in (3, 7, 99)]
    torch.testing.assert_close(losses[0], losses[2])
    torch.testing.assert_close(losses[1], losses[2])


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_the_network_ends_as_it_began(error):
    net = resnet()
    net.body.bn1.train()
    weights, modes, flags, random = state(net)

    def loss() -> Tensor:
        net.train()
        net(torch.rand(4, 3, 32, 32))  # moves BatchNorm's statistics and the random state
        if error is not None:
            raise error("stopped")
        return torch.zeros(())

    places = [[(1.0, random_direction(net.body, chance()))]]
    if error is None:
        walk(net, places, loss)
    else:
        with pytest.raises(error, match="stopped"):
            walk(net, places, loss)
    after = state(net)
    assert all(torch.equal(after[0][name], value) for name, value in weights.items())
    assert after[1:3] == (modes, flags)
    assert torch.equal(after[3], random)
