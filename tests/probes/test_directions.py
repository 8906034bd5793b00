"""Directions: lengths in closed form, a basis that is orthonormal, and components of a walk."""

import pytest
import torch
from stage import network
from torch import nn
from torch.linalg import vector_norm

from kdprobe.errors import InputError, UsageError
from kdprobe.models.contract import Network, make_body
from kdprobe.probes.directions import (
    differences,
    gram,
    mixed,
    moving,
    orthonormal,
    principal,
    random_direction,
    steps_within,
)


def resnet(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return network(make_body("resnet8", num_classes=2, width=2))


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def long(tensors) -> torch.Tensor:
    return vector_norm(torch.cat([one.flatten() for one in tensors]))


@pytest.mark.parametrize("normalisation", ["filter", "layer", "none"])
def test_a_direction_is_as_long_as_the_weights_and_zero_elsewhere(normalisation):
    net = resnet()
    line = random_direction(net.body, chance(), normalisation)
    parameters = dict(net.body.named_parameters())
    assert set(line) == {name for name, weight in parameters.items() if weight.dim() > 1}
    assert {"bn1.weight", "fc.bias"} <= set(parameters) - set(line)
    torch.testing.assert_close(long(line.values()), long(parameters[name] for name in line))
    layers = [vector_norm(way) / vector_norm(parameters[name]) for name, way in line.items()]
    first = line["conv1.weight"].flatten(1).norm(dim=1)
    filters = first / parameters["conv1.weight"].flatten(1).norm(dim=1)
    assert torch.allclose(torch.stack(layers), torch.ones(())) == (normalisation != "none")
    assert torch.allclose(filters, torch.ones(())) == (normalisation == "filter")


def test_equal_generators_give_networks_of_one_shape_the_same_draw():
    one, two = (random_direction(resnet(seed).body, chance()) for seed in (0, 1))
    for name in one:
        sides = tuple(range(1, one[name].dim()))
        units = [d[name] / vector_norm(d[name], dim=sides, keepdim=True) for d in (one, two)]
        torch.testing.assert_close(*units)


def test_a_filter_without_length_stays():
    net = network(nn.Linear(4, 3))
    net.body.weight[1] = 0
    assert random_direction(net.body, chance())["weight"][1].eq(0).all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(UsageError, match="found normalisation 'filters'; wanted filter, layer"):
        random_direction(resnet().body, chance(), "filters")
    with pytest.raises(InputError, match="found no weight of more than one axis"):
        random_direction(nn.BatchNorm2d(3), chance())


@pytest.mark.parametrize("radius", [1.0, 0.3, 1 / 3, 2.0])
def test_the_middle_of_an_odd_slice_is_the_network_itself(radius):
    for points in range(3, 40, 2):
        steps = steps_within(radius, points)
        assert steps[points // 2] == 0
        assert steps[-1] == pytest.approx(radius)
        torch.testing.assert_close(
            steps.diff(), torch.full((points - 1,), 2 * radius / (points - 1))
        )


def test_a_difference_leads_to_the_other_network_and_counts_parameters_alone():
    one, two = resnet(0), resnet(1)
    two.body.bn1.running_mean += 5
    (way,) = differences([two.body], one.body)
    assert set(way) == set(moving(one.body))
    assert not any("num_batches" in name for name in way)
    assert float(way["bn1.running_mean"].mean()) == pytest.approx(5)
    wanted = sum(
        float((b - a).double().square().sum())
        for a, b in zip(one.body.parameters(), two.body.parameters(), strict=True)
    )
    assert float(gram([way], one.body)) == pytest.approx(wanted, rel=1e-6)


def test_tied_weights_move_once():
    body = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    body[1].weight = body[0].weight
    assert set(moving(body)) == {"0.weight", "0.bias", "1.bias"}


def test_networks_of_two_architectures_have_no_way():
    other = network(make_body("resnet8", num_classes=2, width=3))
    with pytest.raises(InputError, match=r"found tensor 'conv1.weight' of shapes \(2, 3, 3, 3\)"):
        differences([other.body], resnet().body)
    with pytest.raises(InputError, match=r"found tensor '1.weight' of shapes None and \(2, 2\)"):
        differences(
            [nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))], nn.Sequential(nn.Linear(2, 2))
        )


def test_three_points_get_an_orthonormal_basis():
    ways = torch.randn(2, 7, generator=chance(), dtype=torch.float64)
    basis, corners = orthonormal(ways @ ways.T)
    axes = basis @ ways
    torch.testing.assert_close(axes @ axes.T, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(corners @ axes, ways, msg="the coordinates lead to the corners")
    assert corners[0, 1] == 0


@pytest.mark.parametrize(
    "ways", [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, 0.0]]]
)
def test_three_points_on_a_line_are_refused(ways):
    rows = torch.tensor(ways, dtype=torch.float64)
    with pytest.raises(InputError, match="found three networks on one line"):
        orthonormal(rows @ rows.T)


def test_components_are_those_of_a_singular_value_decomposition():
    points = torch.randn(6, 40, generator=chance(), dtype=torch.float64)
    away = points - points[-1]
    basis, marks, parts = principal(away @ away.T)
    _, sizes, axes = torch.linalg.svd(points - points.mean(0), full_matrices=False)
    torch.testing.assert_close(parts, sizes[:5] ** 2 / (sizes**2).sum())
    found = basis @ away
    torch.testing.assert_close(found @ found.T, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close((found * axes[:2]).sum(1).abs(), torch.ones(2).double())
    torch.testing.assert_close(marks, away @ found.T)
    assert marks[-1].abs().max() < 1e-12
    assert (basis.max(1).values > -basis.min(1).values).all(), "the sign is not left to chance"
    for some in (principal((-away) @ (-away).T), principal(4 * away @ away.T)):
        torch.testing.assert_close(some[2], parts)
    torch.testing.assert_close(
        mixed([{"a": row} for row in away], basis[0].tolist())["a"], found[0]
    )


def test_checkpoints_on_a_line_are_refused():
    away = torch.tensor([[3.0], [1.0], [0.0]], dtype=torch.float64) * torch.ones(1, 5)
    for products in (away @ away.T, torch.zeros(3, 3).double(), torch.zeros(1, 1).double()):
        with pytest.raises(InputError, match="found checkpoints on one line"):
            principal(products)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_checkpoints_that_are_not_finite_have_no_components(value):
    products = torch.eye(3, dtype=torch.float64)
    products[1, 1] = value
    with pytest.raises(InputError, match="weights that are NaN or infinite; wanted finite ones"):
        principal(products)
