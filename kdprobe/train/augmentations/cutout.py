"""A square of the image is hidden.  Its middle is any pixel, so that some of it may lie outside.

What is hidden is grey, `fill` in [0, 1]: the paper hides with the mean colour, which is 0 after
normalisation and near the middle of [0, 1] before. It uses 16 pixels on CIFAR-10, 8 on CIFAR-100.

Source: DeVries and Taylor 2017, arXiv:1708.04552, section 3.2.

Axes: n images, h and w pixels.
"""

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation


@augmentation("cutout", title="A square of each image is hidden", source="arXiv:1708.04552, 3.2")
def cutout(seen: View, chance: torch.Generator, *, size: int = 8, fill: float = 0.5) -> View:
    """Hide `size` x `size` pixels behind the grey `fill`, from size // 2 before the middle on.

    Raises:
        InputError: `size` is no whole number above 0, or `fill` is not from 0 to 1.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"found size={size!r}; wanted a whole number of pixels above 0")
    if isinstance(fill, (bool, str)) or not 0 <= fill <= 1:
        raise InputError(f"found fill={fill!r}; wanted a grey from 0 to 1")
    n, _, height, width = seen.pixels.shape
    rows = _hidden(torch.randint(height, (n, 1), generator=chance), size, height)
    columns = _hidden(torch.randint(width, (n, 1), generator=chance), size, width)
    square = (rows[:, :, None] & columns[:, None, :]).to(seen.pixels.device)
    return seen._replace(pixels=seen.pixels.masked_fill(square[:, None], fill))


def _hidden(middle: Tensor, size: int, side: int) -> Tensor:
    """(n, 1) middles -> (n, side) bool."""
    first, places = middle - size // 2, torch.arange(side)
    return (places >= first) & (places < first + size)
