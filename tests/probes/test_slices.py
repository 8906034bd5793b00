"""Slices of the loss: the network in the middle, and planes walked row by row."""

import pytest
import torch
from stage import Stage, network, noise_images
from torch.nn.functional import cross_entropy

from kdprobe.models.contract import Network, make_body
from kdprobe.probes.directions import random_direction
from kdprobe.probes.slices import slice_1d, slice_2d
from kdprobe.probes.walking import loss_of, mean, walk


def resnet(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return network(make_body("resnet8", num_classes=2, width=2))


def test_the_centre_is_the_networks_own_loss():
    net, data = resnet(), noise_images(10, side=32)
    wanted = cross_entropy(net(data.pixels), data.labels)
    stage = Stage(data, {"net": net}, batch=4)
    line = slice_1d(["net"], stage, radius=1.0, points=5, directions=3)
    plane = slice_2d(["net"], stage, radius=1.0, points=3)
    assert line["loss"].shape == (3, 5)
    assert plane["loss"].shape == (1, 3, 3)
    assert int(line["images"]) == 10
    assert 0 <= float(line["off"]) < 1e-5
    assert torch.equal(line["loss"][:, 2], line["loss"][0, 2].expand(3))
    assert torch.equal(plane["loss"][0, 1, 1], line["loss"][0, 2])
    torch.testing.assert_close(line["loss"][0, 2], wanted)
    assert line["loss"][:, 0].ne(line["loss"][:, 4]).all()


def test_a_plane_is_walked_row_by_row_along_the_second_direction():
    net, data = resnet(), noise_images(4, side=32)
    stage = Stage(data, {"net": net})
    plane = slice_2d(["net"], stage, radius=0.5, points=3, pairs=2)["loss"]
    draw = stage.generator(3)
    ways = [random_direction(net.body, draw) for _ in range(4)]
    loss = loss_of("net", stage, net)
    for pair, row, column, place in (
        (0, 2, 1, [(0.5, ways[1])]),
        (0, 1, 0, [(-0.5, ways[0])]),
        (1, 0, 2, [(0.5, ways[2]), (-0.5, ways[3])]),
    ):
        torch.testing.assert_close(plane[pair, row, column], mean(walk(net, [place], loss))[0])


@pytest.mark.parametrize("normalisation", ["filter", "layer", "none"])
def test_every_normalisation_walks_another_way(normalisation):
    net, data = resnet(), noise_images(4, side=32)
    stage = Stage(data, {"net": net})
    settings = {"radius": 1.0, "points": 3, "normalisation": normalisation}
    line = slice_1d(["net"], stage, directions=1, **settings)["loss"]
    way = random_direction(net.body, stage.generator(2), normalisation)
    found = mean(walk(net, [[(1.0, way)]], loss_of("net", stage, net)))
    torch.testing.assert_close(line[0, 2], found[0])


def test_bf16_is_near_and_says_how_near():
    net, data = resnet(), noise_images(16, side=32)
    stage = Stage(data, {"net": net})
    lines = {
        precision: slice_1d(["net"], stage, radius=0.2, points=3, directions=1, precision=precision)
        for precision in ("float32", "bf16")
    }
    off = (lines["bf16"]["loss"] / lines["float32"]["loss"] - 1).abs()
    assert 1e-7 < float(off.max()) < 0.02
    told = float(lines["bf16"]["off"])
    assert told == pytest.approx(float(off[0, :2].max()), rel=0.01), "of the two places checked"
