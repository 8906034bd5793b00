"""Paths and planes between networks: ends that are the networks, and statistics found anew."""

import pytest
import torch
from stage import Stage, network, noise_images
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdprobe.errors import InputError
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.paths import path
from kdprobe.probes.planes import TRIANGLE, route, route_plane, triangle, triangle_plane
from kdprobe.probes.walking import halves, settling

COUNT = 12


def resnet(seed: int = 0) -> Network:
    """With statistics as after some training."""
    torch.manual_seed(seed)
    body = make_body("resnet8", num_classes=2, width=2)
    for norm in (module for module in body.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return network(body)


def dense(weight: Tensor) -> Network:
    """A network without BatchNorm whose only parameter is known."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 2, bias=False))
    body[1].weight.data.copy_(weight.view(2, 192))
    return network(body)


def stage(side: int = 32, **networks: Network) -> Stage:
    return Stage(noise_images(COUNT, side=side), networks, batch=8)


def settled_loss(net: Network, data) -> Tensor:
    """(n,) after statistics of the other half: done on the network itself, by hand."""
    quiet, asked = halves(data)
    settling(net, quiet.pixels, 8)()
    return cross_entropy(net(asked.pixels), asked.labels, reduction="none")


def test_the_ends_of_a_path_are_the_networks():
    seen = path(["a", "b"], stage(a=resnet(0), b=resnet(1)), points=5)
    data = noise_images(COUNT, side=32)
    asked = halves(data)[1]
    for end, seed in ((0, 0), (-1, 1)):
        net = resnet(seed)
        own = cross_entropy(net(asked.pixels), asked.labels, reduction="none")
        torch.testing.assert_close(seen["interpolated"][end], own, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(seen["anew"][end], settled_loss(net, data), rtol=1e-3, atol=1e-5)
    assert seen["anew"].shape == (5, COUNT // 2)
    assert not torch.allclose(seen["anew"], seen["interpolated"])
    assert int(seen["norms"]) == 9


def test_a_path_is_the_same_from_either_end():
    there, back = (
        path(ends, stage(a=resnet(0), b=resnet(1)), points=5) for ends in (["a", "b"], ["b", "a"])
    )
    assert float(there["distance"]) == pytest.approx(float(back["distance"]))
    for kind in ("anew", "interpolated"):
        torch.testing.assert_close(there[kind], back[kind].flip(0), rtol=1e-3, atol=1e-5)


def test_a_convex_loss_has_no_hill_and_the_middle_is_the_mean_of_weights():
    one, two = torch.randn(2, 384, generator=torch.Generator().manual_seed(0))
    seen = path(["a", "b"], stage(8, a=dense(one), b=dense(two)), points=3)
    assert torch.equal(seen["anew"], seen["interpolated"]), "there is no BatchNorm"
    assert int(seen["norms"]) == 0
    assert float(seen["distance"]) == pytest.approx(float((one - two).norm()), rel=1e-6)
    asked = halves(noise_images(COUNT))[1]
    net = dense((one + two) / 2)
    wanted = cross_entropy(net(asked.pixels), asked.labels, reduction="none")
    torch.testing.assert_close(seen["anew"][1], wanted)
    assert (seen["anew"][1] <= (seen["anew"][0] + seen["anew"][2]) / 2 + 1e-6).all()


def test_the_triangle_has_its_corners_middles_and_centre():
    nets = {name: resnet(seed) for seed, name in enumerate("abc")}
    seen = triangle(list("abc"), stage(**nets))
    data = noise_images(COUNT, side=32)
    states = [net.body.state_dict() for net in nets.values()]
    for found, (second, third) in zip(seen["loss"], TRIANGLE, strict=True):
        shares = (1 - second - third, second, third)
        net = resnet()
        for name, value in net.body.state_dict().items():
            if value.is_floating_point():
                value.copy_(sum(k * s[name] for k, s in zip(shares, states, strict=True)))
        torch.testing.assert_close(found, settled_loss(net, data), rtol=1e-3, atol=1e-4)
    sides = [
        float((weights(nets[one]) - weights(nets[other])).norm()) for one, other in ("ab", "bc")
    ]
    assert seen["sides"][[0, 2]].tolist() == pytest.approx(sides)


def weights(net: Network) -> Tensor:
    return torch.cat([value.double().flatten() for value in net.body.parameters()])


def state(net: Network):
    values = {name: value.clone() for name, value in net.state_dict().items()}
    return values, [module.training for module in net.modules()], torch.get_rng_state()


def test_networks_are_where_the_plane_says():
    """Of a dense network the loss at any place of the plane is known."""
    chance = torch.Generator().manual_seed(0)
    three = torch.randn(3, 384, generator=chance)
    nets = {name: dense(weight) for name, weight in zip("abc", three, strict=True)}
    seen = triangle_plane(list("abc"), stage(8, **nets), points=4)
    sides = torch.pdist(three).tolist()
    assert torch.pdist(seen["marks"]).tolist() == pytest.approx(sides, rel=1e-5)
    assert seen["marks"][0].tolist() == [0, 0]
    asked = halves(noise_images(COUNT))[1]
    one = (three[1] - three[0]) / sides[0]
    rest = three[2] - three[0]
    two = rest - (rest @ one) * one
    two = two / two.norm()
    for row, y in enumerate(seen["y"]):
        for column, x in enumerate(seen["x"]):
            net = dense(three[0] + x * one + y * two)
            wanted = cross_entropy(net(asked.pixels), asked.labels)
            torch.testing.assert_close(seen["loss"][row, column], wanted, rtol=1e-4, atol=1e-5)
    for axis, values in enumerate((seen["x"], seen["y"])):
        assert values[0] < seen["marks"][:, axis].min()
        assert values[-1] > seen["marks"][:, axis].max()


def test_the_plane_of_a_training_holds_its_end_and_its_components():
    chance = torch.Generator().manual_seed(0)
    points = torch.randn(5, 384, generator=chance).cumsum(0)
    nets = {f"e{i}": dense(weight) for i, weight in enumerate(points)}
    seen = route_plane(list(nets), stage(8, **nets), points=3)
    told = route(list(nets), stage(8, **nets))
    _, sizes, axes = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    torch.testing.assert_close(told["parts"].float(), sizes[:4] ** 2 / (sizes**2).sum())
    torch.testing.assert_close(told["lengths"].float(), points.diff(dim=0).norm(dim=1))
    assert float(told["displacement"]) == pytest.approx(float((points[-1] - points[0]).norm()))
    wanted = (points - points[-1]) @ axes[:2].T
    torch.testing.assert_close(seen["marks"].float().abs(), wanted.abs(), rtol=1e-3, atol=1e-4)
    signs = (seen["marks"].float() * wanted).sum(0).sign()
    asked = halves(noise_images(COUNT))[1]
    for row, y in enumerate(seen["y"]):
        for column, x in enumerate(seen["x"]):
            place = points[-1] + x * signs[0] * axes[0] + y * signs[1] * axes[1]
            wanted = cross_entropy(dense(place)(asked.pixels), asked.labels)
            torch.testing.assert_close(seen["loss"][row, column], wanted, rtol=1e-4, atol=1e-4)


def test_no_network_is_moved():
    nets = {name: resnet(seed) for seed, name in enumerate("abc")}
    before = {name: state(net) for name, net in nets.items()}
    lens = stage(**nets)
    path(["a", "b"], lens, points=3)
    route(list("abc"), lens)
    route_plane(list("abc"), lens, points=2)
    triangle(list("abc"), lens)
    triangle_plane(list("abc"), lens, points=2)
    for name, net in nets.items():
        now = state(net)
        assert all(torch.equal(now[0][key], value) for key, value in before[name][0].items())
        assert now[1] == before[name][1]
        assert torch.equal(now[2], before[name][2])


def test_what_spans_no_plane_is_refused():
    nets = {"a": resnet(0), "b": resnet(1), "c": resnet(1)}
    with pytest.raises(InputError, match="found three networks on one line"):
        triangle(list("abc"), stage(**nets))
    with pytest.raises(InputError, match="found checkpoints on one line"):
        route(["a", "b"], stage(**nets))
    other = network(make_body("resnet8", num_classes=2, width=3))
    with pytest.raises(InputError, match="wanted networks of one architecture"):
        path(["a", "o"], stage(a=resnet(), o=other), points=3)
