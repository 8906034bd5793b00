"""Pixels as they are, and the object's share of every unit counted by hand."""

import pytest
import torch
from stage import Stage, noise_images

from kdprobe.datasets.contract import Images
from kdprobe.datasets.photodigits import photodigits
from kdprobe.errors import InputError
from kdprobe.probes.pictures import pictures


def look(data: Images, units: str = "cells", grid: int = 4, object: str = "mask"):
    return pictures([], Stage(data, {}), units=units, grid=grid, object=object)


@pytest.mark.parametrize("grid", [1, 4, 16, 32])
def test_coverage_is_the_share_of_mask_pixels(grid):
    data = photodigits("test", train=1, test=5)
    seen, side = look(data, grid=grid), 32 // grid
    assert torch.equal(seen["sizes"], torch.full((5, grid**2), float(side**2)))
    for n in range(5):
        for i in range(grid):
            for j in range(grid):
                rows, columns = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
                count = int(data.objects[n, rows, columns].sum())
                assert float(seen["coverage"][n, i * grid + j]) == pytest.approx(count / side**2)


@pytest.mark.parametrize("grid", [3, 5])
def test_cells_of_unequal_size_count_their_own_pixels(grid):
    data = noise_images(2)
    seen = look(data, grid=grid)
    where = torch.arange(8) * grid // 8
    for i in range(grid):
        for j in range(grid):
            cell = data.objects[:, where == i][:, :, where == j].float()
            assert seen["sizes"][0, i * grid + j] == cell[0].numel()
            torch.testing.assert_close(seen["coverage"][:, i * grid + j], cell.mean((1, 2)))


def test_pixels_are_the_images_in_eight_bits():
    data = noise_images(3)
    seen = look(data)
    assert seen["pixels"].dtype == torch.uint8
    assert seen["pixels"].shape == (3, 8, 8, 3)
    back = seen["pixels"].permute(0, 3, 1, 2) / 255
    assert (back - data.pixels).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(seen["labels"], data.labels)
    assert torch.equal(seen["object"].bool(), data.objects)


def test_every_pixel_knows_its_unit():
    seen = look(noise_images(2))
    assert seen["members"].shape == (2, 8, 8)
    assert seen["members"].dtype == torch.int32
    for n, i, j in ((0, 0, 0), (1, 3, 5), (0, 7, 7)):
        assert int(seen["members"][n, i, j]) == (i // 2) * 4 + j // 2


def test_parts_that_an_image_lacks_have_no_size_and_no_coverage():
    data = noise_images(2)  # the object is the upper half
    parts = torch.full((2, 8, 8), -1)
    parts[:, :6] = 0
    parts[0, 6:, :2] = 1
    seen = look(Images(data.pixels, data.labels, data.classes, data.objects, parts), "parts")
    assert seen["sizes"].tolist() == [[48, 4], [48, 0]]
    torch.testing.assert_close(seen["coverage"], torch.tensor([[4 / 6, 0.0], [4 / 6, 0.0]]))
    assert torch.equal(seen["members"], parts.to(torch.int32))


def test_of_sequences_there_is_no_picture():
    tokens = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    objects = torch.tensor([[True, False, False, True, False]] * 2)
    data = Images(tokens, torch.zeros(2, dtype=torch.int64), ("a",), objects)
    seen = look(data, "tokens")
    assert set(seen) == {"labels", "sizes", "coverage"}
    assert torch.equal(seen["coverage"].bool(), objects)
    assert seen["sizes"].tolist() == [[1] * 5] * 2


@pytest.mark.parametrize("masks", [True, False])
def test_the_centre_is_twelve_of_sixteen_cells_whatever_the_masks(masks):
    data = photodigits("test", train=1, test=2)
    objects = data.objects if masks else None
    seen = look(Images(data.pixels, data.labels, data.classes, objects), grid=16, object="centre")
    wanted = torch.zeros(16, 16)
    wanted[2:14, 2:14] = 1
    assert torch.equal(seen["coverage"], wanted.flatten().expand(2, -1))
    assert int(seen["object"].sum()) == 2 * 24 * 24


def test_without_an_object_there_is_nothing_to_cover():
    data = noise_images(3)
    bare = Images(data.pixels, data.labels, data.classes, None)
    with pytest.raises(InputError, match=r"no object masks, and inputs of shape \(3, 8, 8\)"):
        look(bare)
    tokens = Images(torch.randn(2, 5, 4), torch.zeros(2, dtype=torch.int64), ("a",), None)
    with pytest.raises(InputError, match=r"\(5, 4\) for discarding.object=centre; wanted Images"):
        look(tokens, "tokens", object="centre")


def test_the_papers_masks_are_sampled_by_the_nearest_pixel():
    objects = torch.zeros(1, 8, 8, dtype=torch.bool)
    objects[0, 2, 4] = True  # the first pixel of cell (1, 2), and a quarter of it
    objects[0, 5, 5] = True  # the last pixel of cell (2, 2)
    pixels = torch.rand(1, 3, 8, 8)
    data = Images(pixels, torch.zeros(1, dtype=torch.int64), ("a",), objects)
    seen = pictures([], Stage(data, {}), units="cells", grid=4, object="sampled")
    wanted = torch.zeros(4, 4)
    wanted[1, 2] = 1
    assert torch.equal(seen["coverage"].view(4, 4), wanted)
    assert torch.equal(seen["object"].bool(), objects), "what is drawn is the mask itself"
