"""What is on the images?  Pixels, labels, and how much of every unit the object covers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.probes.units import Kind, Units, units_of
from kdprobe.study import Checkpoint

MARGIN = 8  # the centre leaves out 1/8 at every edge: 12 of 16 cells, as the paper does


@probe("pictures", version=3)
def pictures(
    subjects: Sequence[Checkpoint], lens: Lens, *, units: Kind, grid: int, object: str
) -> Mapping[str, Tensor]:
    """Returns labels (n,), sizes (n, q) positions of every unit (0 = the input lacks it), and
    coverage (n, q), the object's share of a unit.

    Of images also pixels (n, h, w, 3) uint8, object (n, h, w) uint8, 1 on the object, and members
    (n, h, w) int32, the unit of every pixel (-1 = of none). `object` is "mask", "sampled" (masks
    taken down to the grid by the nearest pixel, as the paper's code does), or "centre".

    Raises:
        InputError: the inputs have no such units, or no object of this kind.
    """
    images = lens.images
    cut, on = units_of(images, units, grid), _objects(images, object)
    sizes = cut.sizes
    seen = {"labels": images.labels, "sizes": sizes, "coverage": _coverage(on, cut, object, grid)}
    if images.pixels.dim() == 4:
        pixels = (images.pixels * 255).round().to(torch.uint8)
        seen["pixels"] = pixels.permute(0, 2, 3, 1).contiguous()
        seen["object"] = on.to(torch.uint8)
        seen["members"] = cut.members.view(on.shape).to(torch.int32)
    return seen


def _coverage(on: Tensor, cut: Units, kind: str, grid: int) -> Tensor:
    """(n, q) the object's share of every unit; of "sampled" cells 1 or 0, by one pixel."""
    values = on.to(torch.float32)
    if kind == "sampled" and on.dim() == 3:
        return interpolate(values[:, None], size=(grid, grid)).flatten(1)
    inside = cut.gather(values[None, ..., None] if values.dim() == 2 else values[None, :, None])[0]
    return inside / cut.sizes.clamp(min=1)


def _objects(images: Images, kind: str) -> Tensor:
    """(n, positions) bool."""
    if kind != "centre" and images.objects is not None:
        return images.objects
    if kind != "centre" or len(images.positions) != 2:
        raise InputError(
            f"found no object masks, and inputs of shape {tuple(images.pixels.shape[1:])} for "
            f"discarding.object={kind}; wanted Images.objects, or images for the centre"
        )
    inner = torch.zeros(images.positions, dtype=torch.bool)
    high, wide = images.positions
    inner[high // MARGIN : high - high // MARGIN, wide // MARGIN : wide - wide // MARGIN] = True
    return inner.expand(len(images), -1, -1)
