"""A piece of one image in another, and the target mixed by area.

    m ~ Beta(alpha, alpha);  piece: sqrt(1 - m) of each side, its middle any pixel, cut at the edge
    target = (1 - area) y_i + area y_j        area: share of the pixels that come from image j

One piece a batch; the partners are the same batch in another order.

Source: Yun et al. 2019, arXiv:1905.04899, equations 1 and 2, and the authors' code (the cut at the
edge, after which m is reckoned anew).
"""

import math

import torch

from kdprobe.train.augmentations.contract import View, augmentation
from kdprobe.train.augmentations.mixup import drawn_partners, drawn_share, mixed, shares


@augmentation("cutmix", title="A piece of one image in another", source="arXiv:1905.04899, eq. 1-2")
def cutmix(seen: View, chance: torch.Generator, *, alpha: float = 1.0) -> View:
    """Exchange a piece by a share of Beta(alpha, alpha).

    Raises:
        InputError: `alpha` is not above 0.
    """
    side = math.sqrt(1 - drawn_share(alpha, chance))
    partners = drawn_partners(seen, chance)
    height, width = seen.pixels.shape[2:]
    rows, columns = _span(height, side, chance), _span(width, side, chance)
    pixels = seen.pixels.clone()
    pixels[:, :, rows, columns] = seen.pixels[partners][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    target = shares(seen)
    return seen._replace(pixels=pixels, target=mixed(target, target[partners], 1 - area))


def _span(length: int, share: float, chance: torch.Generator) -> slice:
    """`share` of `length` pixels around one that is drawn, as far as they lie within."""
    size = int(length * share)
    first = int(torch.randint(length, (1,), generator=chance)) - size // 2
    return slice(max(first, 0), min(first + size, length))
