"""Squared slopes: many probes in one vectorised pass, as a GPU takes them, are many passes."""

import torch
from stage import network, noise_images

from kdprobe.models.contract import make_body
from kdprobe.probes.slopes import Eye, _energy, _leaf, _signs, _slope
from kdprobe.probes.units import units_of
from kdprobe.taps import find_taps


def test_probes_at_once_are_probes_one_by_one():
    torch.manual_seed(0)
    net, images = network(make_body("resnet8", num_classes=3, width=2)), noise_images(2, side=32)
    eye = Eye(net, find_taps(net.body, ["stage3"]), images.pixels, units_of(images, "cells", 4))
    x = _leaf(images.pixels)
    with torch.enable_grad():
        output = eye.outputs(x)["stage3"]
    signs = _signs((5, *output.shape), torch.Generator().manual_seed(1))
    slopes = _slope(output, x, signs, batched=True)
    alone = torch.stack([_slope(output, x, v, batched=False) for v in signs])
    assert slopes.shape == (5, *x.shape)
    torch.testing.assert_close(slopes, alone)
    summed = _energy(output, x, signs, eye.units, rows=128)
    assert summed.shape == (2, 16)
    torch.testing.assert_close(summed, eye.units.gather(slopes.square()).sum(0))
