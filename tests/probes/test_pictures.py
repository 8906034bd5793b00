"""Pixels as they are, and the object's share of every cell counted by hand."""

import pytest
import torch
from stage import Stage, noise_images

from kdprobe.datasets.contract import Images
from kdprobe.datasets.photodigits import photodigits
from kdprobe.probes.pictures import pictures


@pytest.mark.parametrize("grid", [1, 4, 16, 32])
def test_coverage_is_the_share_of_mask_pixels(grid):
    data = photodigits("test", train=1, test=5)
    seen = pictures([], Stage(data, {}), grid=grid)
    side = 32 // grid
    for n in range(5):
        for i in range(grid):
            for j in range(grid):
                rows, columns = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
                count = int(data.objects[n, rows, columns].sum())
                assert float(seen["coverage"][n, i, j]) == pytest.approx(count / side**2)


def test_pixels_are_the_images_in_eight_bits():
    data = noise_images(3)
    seen = pictures([], Stage(data, {}), grid=4)
    assert seen["pixels"].dtype == torch.uint8
    assert seen["pixels"].shape == (3, 8, 8, 3)
    back = seen["pixels"].permute(0, 3, 1, 2) / 255
    assert (back - data.pixels).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(seen["labels"], data.labels)
    assert torch.equal(seen["object"].bool(), data.objects)


def test_without_masks_there_is_no_object():
    data = noise_images(3)
    bare = Images(data.pixels, data.labels, data.classes, None)
    assert set(pictures([], Stage(bare, {}), grid=4)) == {"pixels", "labels"}
