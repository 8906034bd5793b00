"""What is on the images?  Pixels, labels, and how much of every unit the object covers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.probes.units import Kind, units_of
from kdprobe.study import Checkpoint

MARGIN = 8  # the centre leaves out 1/8 at every edge: 12 of 16 cells, as the paper does


@probe("pictures", version=2)
def pictures(
    subjects: Sequence[Checkpoint], lens: Lens, *, units: Kind, grid: int, object: str
) -> Mapping[str, Tensor]:
    """Returns labels (n,), sizes (n, q) positions of every unit (0 = the input lacks it), and
    coverage (n, q), the object's share of a unit.

    Of images also pixels (n, h, w, 3) uint8, object (n, h, w) uint8, 1 on the object, and members
    (n, h, w) int32, the unit of every pixel (-1 = of none). `object` is "mask", or "centre".

    Raises:
        InputError: the inputs have no such units, or no object of this kind.
    """
    images = lens.images
    cut, on = units_of(images, units, grid), _objects(images, object)
    sizes = cut.sizes
    values = on.to(torch.float32)
    inside = cut.gather(values[None, ..., None] if values.dim() == 2 else values[None, :, None])[0]
    seen = {"labels": images.labels, "sizes": sizes, "coverage": inside / sizes.clamp(min=1)}
    if images.pixels.dim() == 4:
        pixels = (images.pixels * 255).round().to(torch.uint8)
        seen["pixels"] = pixels.permute(0, 2, 3, 1).contiguous()
        seen["object"] = on.to(torch.uint8)
        seen["members"] = cut.members.view(on.shape).to(torch.int32)
    return seen


def _objects(images: Images, kind: str) -> Tensor:
    """(n, positions) bool."""
    if kind == "mask" and images.objects is not None:
        return images.objects
    if kind == "mask" or len(images.positions) != 2:
        raise InputError(
            f"found no object masks, and inputs of shape {tuple(images.pixels.shape[1:])} for "
            f"discarding.object={kind}; wanted Images.objects, or images for the centre"
        )
    inner = torch.zeros(images.positions, dtype=torch.bool)
    high, wide = images.positions
    inner[high // MARGIN : high - high // MARGIN, wide // MARGIN : wide - wide // MARGIN] = True
    return inner.expand(len(images), -1, -1)
