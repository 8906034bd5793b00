"""Statistics of BatchNorm found anew: those of the images, and nothing else is changed."""

import pytest
import torch
from stage import network, noise_images
from torch import nn

from kdprobe.errors import InputError
from kdprobe.probes.walking import halves, settling


def test_settled_statistics_are_those_of_the_images():
    """One BatchNorm on the pixels: mean and variance are known."""
    norm = nn.BatchNorm2d(3, momentum=0.3)
    net = network(nn.Sequential(norm, nn.Dropout(0.5), nn.Flatten(), nn.Linear(192, 2)))
    data = noise_images(10)
    settling(net, data.pixels, 100)()
    pixels = net.normalised(data.pixels)
    torch.testing.assert_close(norm.running_mean, pixels.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, pixels.transpose(0, 1).flatten(1).var(1))
    once = norm.running_mean.clone()
    settling(net, data.pixels, 4)()
    torch.testing.assert_close(
        norm.running_var,
        torch.stack(
            [part.transpose(0, 1).flatten(1).var(1) for part in torch.tensor_split(pixels, 3)]
        ).mean(0),
    )
    assert not torch.equal(norm.running_mean, once)
    assert (norm.momentum, norm.training, net.body[1].training) == (0.3, False, False)


def test_a_network_without_statistics_has_none_to_settle():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    assert settling(network(plain), noise_images(4).pixels, 2) is None
    with pytest.raises(InputError, match="found 1 images for the statistics of BatchNorm"):
        settling(network(nn.BatchNorm2d(3)), noise_images(1).pixels, 2)


def test_halves_share_no_image():
    data = noise_images(7)
    one, two = halves(data)
    assert (len(one), len(two)) == (4, 3)
    assert torch.equal(
        torch.cat([one.pixels, two.pixels]).sort(0).values, data.pixels.sort(0).values
    )
    with pytest.raises(InputError, match="found 3 images; wanted at least 4"):
        halves(noise_images(3))
