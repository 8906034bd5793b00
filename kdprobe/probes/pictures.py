"""What is on the images?  Pixels, labels, and how much of every grid cell the object covers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kdprobe.probes.contract import probe
from kdprobe.probes.lens import Lens
from kdprobe.study import Checkpoint


@probe("pictures", version=1)
def pictures(subjects: Sequence[Checkpoint], lens: Lens, *, grid: int) -> Mapping[str, Tensor]:
    """Returns pixels (n, h, w, 3) uint8 and labels (n,); with masks also object and coverage.

    object is (n, h, w) uint8, 1 on the object; coverage is (n, g, g), the object's share of a cell.
    """
    images = lens.images
    pixels = (images.pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    seen = {"pixels": pixels, "labels": images.labels}
    if images.objects is not None:
        seen["object"] = images.objects.to(torch.uint8)
        seen["coverage"] = adaptive_avg_pool2d(images.objects.float(), grid)
    return seen
