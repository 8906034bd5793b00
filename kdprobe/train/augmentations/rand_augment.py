"""Some changes out of fourteen, drawn for each image for itself, all of one strength.

`ops` times over, each image gets one of these, equally likely; s = magnitude / 10, and s = 1 is the
strongest of AutoAugment. Signs are drawn.

    identity                                 nothing
    auto_contrast                            each channel stretched to [0, 1]
    equalize                                 each channel's histogram of 256 levels made flat
    solarize                                 x -> 1 - x where x >= 1 - s
    posterize                                8 - round(4 s) bits are kept, at least 1
    brightness, contrast, saturation         as in colour_jitter, factor 1 ± 0.9 s
    sharpness                                away from, or to, the image smoothed; factor 1 ± 0.9 s
    rotate                                   ± 30 s degrees
    shear_x, shear_y                         x -> x ± 0.3 s y, y -> y ± 0.3 s x
    translate_x, translate_y                 ± 10/32 s of the longer side

Outside of a moved image is middle grey. The strengths of solarize and posterize rise with the
magnitude; in some released codes theirs fall.

Source: Cubuk et al. 2020, arXiv:1909.13719, section 3; ranges: Cubuk et al. 2019, arXiv:1805.09501,
table 6.

Axes: n images, of which m get a certain change; h and w pixels; 256 levels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.augmentations.colour_jitter import blended, brightened, contrasted, saturated
from kdprobe.train.augmentations.contract import View, augmentation
from kdprobe.train.augmentations.rotation import moved, turned_by

LEVELS, GREY = 256, 0.5
Change = Callable[[Tensor, float, Tensor], Tensor]  # (m, 3, h, w), s, (m,) signs of 1 or -1


@augmentation(
    "rand_augment",
    title="Some of fourteen changes of colours and places, drawn for each image",
    source="arXiv:1909.13719, section 3",
)
def rand_augment(
    seen: View, chance: torch.Generator, *, ops: int = 2, magnitude: float = 9
) -> View:
    """`ops` changes of strength `magnitude` / 10.

    Raises:
        InputError: `ops` is no whole number above 0, or `magnitude` is not from 0 to 30.
    """
    if isinstance(ops, bool) or not isinstance(ops, int) or ops < 1:
        raise InputError(f"found ops={ops!r}; wanted a whole number of changes above 0")
    if isinstance(magnitude, (bool, str)) or not 0 <= magnitude <= 30:
        raise InputError(f"found magnitude={magnitude!r}; wanted a number from 0 to 30")
    pixels, n = seen.pixels.clone(), len(seen.pixels)
    for _ in range(ops):
        choice = torch.randint(len(CHANGES), (n,), generator=chance)
        signs = 1.0 - 2 * torch.randint(2, (n,), generator=chance)
        for place, change in enumerate(CHANGES.values()):
            mine = (
                (choice == place).nonzero().squeeze(1)
            )  # on the CPU: the device is not waited for
            if change is not None and len(mine):
                rows = mine.to(pixels.device)
                pixels[rows] = change(pixels[rows], magnitude / 10, signs[mine])
    return seen._replace(pixels=pixels)


def auto_contrast(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
    """(x - least) / (most - least) in each channel; one colour stays as it is."""
    least, most = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    span = most - least
    return torch.where(span > 0, (pixels - least) / torch.where(span > 0, span, 1.0), pixels)


def equalize(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
    """Level k of a channel becomes (pixels below k + step // 2) // step, as Pillow reckons it.

    step = (all pixels - those of the highest level there is) // 255; where it is 0 nothing changes.
    """
    m, d = pixels.shape[:2]
    level = (pixels * (LEVELS - 1)).round().long().view(m * d, -1)
    bins = level + LEVELS * torch.arange(m * d, device=pixels.device)[:, None]
    counts = torch.zeros(m * d * LEVELS, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(0, bins.flatten(), torch.ones_like(level).flatten())
    counts = counts.view(m * d, LEVELS)
    below = counts.cumsum(1) - counts  # pixels of a lower level than each
    step = below.gather(1, level.amax(1, keepdim=True)) // (LEVELS - 1)
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(LEVELS - 1)
    flat = (table.gather(1, level) / (LEVELS - 1)).view_as(pixels).to(pixels.dtype)
    return torch.where((step > 0).view(m, d, 1, 1), flat, pixels)


def solarize(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
    return torch.where(pixels >= 1 - s, 1 - pixels, pixels) if s else pixels


def posterize(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
    step = 2.0 ** (8 - max(8 - round(4 * s), 1))
    return ((pixels * (LEVELS - 1)).round() / step).floor() * step / (LEVELS - 1)


def sharpness(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
    """Smoothed: the pixel weighs 5, each of its 8 neighbours 1; the outermost pixels stay."""
    smooth, d = pixels.clone(), pixels.shape[1]
    if min(pixels.shape[2:]) > 2:
        weights = torch.ones(3, 3, dtype=pixels.dtype, device=pixels.device)
        weights[1, 1] = 5
        weights = (weights / weights.sum()).expand(d, 1, 3, 3)
        smooth[:, :, 1:-1, 1:-1] = F.conv2d(pixels, weights, groups=d)
    return blended(pixels, smooth, _factors(s, signs, pixels))


def _factors(s: float, signs: Tensor, pixels: Tensor) -> Tensor:
    return (1 + 0.9 * s * signs).clamp_min(0).to(pixels)


def _coloured(change: Callable[[Tensor, Tensor], Tensor]) -> Change:
    return lambda pixels, s, signs: change(pixels, _factors(s, signs, pixels))


def _placed(place: Callable[[Tensor], Tensor]) -> Change:
    """A change of place: `place` gives (m, 2, 3) for the strengths ± s."""

    def change(pixels: Tensor, s: float, signs: Tensor) -> Tensor:
        return (moved(pixels - GREY, place(s * signs.double()), "zeros") + GREY).clamp_(0, 1)

    return change


def _rotate(strengths: Tensor) -> Tensor:
    return turned_by(strengths * math.radians(30))


def _shifted(row: int, column: int, most: float) -> Callable[[Tensor], Tensor]:
    """The identity, and at (row, column) `most` times the strength."""

    def place(strengths: Tensor) -> Tensor:
        places = torch.eye(2, 3, dtype=strengths.dtype).repeat(len(strengths), 1, 1)
        places[:, row, column] = most * strengths
        return places

    return place


CHANGES: dict[str, Change | None] = {
    "identity": None,
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "solarize": solarize,
    "posterize": posterize,
    "brightness": _coloured(brightened),
    "contrast": _coloured(contrasted),
    "saturation": _coloured(saturated),
    "sharpness": sharpness,
    "rotate": _placed(_rotate),
    "shear_x": _placed(_shifted(0, 1, 0.3)),
    "shear_y": _placed(_shifted(1, 0, 0.3)),
    "translate_x": _placed(_shifted(0, 2, 20 / 32)),  # in halves of the side
    "translate_y": _placed(_shifted(1, 2, 20 / 32)),
}
