"""Another light: brightness, contrast, saturation and hue, each image for itself, in this order.

    brightness   x -> f x                          f drawn from 1 - b to 1 + b, never below 0
    contrast     x -> f x + (1 - f) mean light     of the image
    saturation   x -> f x + (1 - f) light          of the pixel
    hue          turned by a share of the circle drawn from -h to h

light = 0.299 red + 0.587 green + 0.114 blue. After each step x is kept within [0, 1].

Source: Howard 2013, arXiv:1312.5402, section 2.2 (brightness, contrast, saturation); light as in
ITU-R BT.601; hue as in the HSV colours of Smith 1978.

Axes: n images, h and w pixels.
"""

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation

LIGHT = (0.299, 0.587, 0.114)


@augmentation(
    "colour_jitter",
    title="Another brightness, contrast, saturation and hue",
    source="arXiv:1312.5402, section 2.2",
)
def colour_jitter(
    seen: View,
    chance: torch.Generator,
    *,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.4,
    hue: float = 0.0,
) -> View:
    """Change each by a factor within 1 ± its knob, hue by up to ± `hue` of the circle; 0 = off.

    Raises:
        InputError: a knob is below 0, or `hue` above 1/2.
    """
    spans = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, span in spans.items():
        most = 0.5 if name == "hue" else float("inf")
        if isinstance(span, (bool, str)) or not 0 <= span <= most or span == float("inf"):
            raise InputError(
                f"found {name}={span!r}; wanted a number from 0"
                + (" to 0.5, half of the circle" if name == "hue" else " on")
            )
    draws = 2 * torch.rand(4, len(seen.pixels), generator=chance) - 1
    draws = (draws * torch.tensor(list(spans.values()))[:, None]).to(seen.pixels.device)
    pixels, factors = seen.pixels, (1 + draws[:3]).clamp_min(0)
    steps = (brightened, contrasted, saturated)
    for change, factor, span in zip(steps, factors, spans.values(), strict=False):  # hue is after
        pixels = change(pixels, factor) if span else pixels
    return seen._replace(pixels=hue_turned(pixels, draws[3]) if hue else pixels)


def brightened(pixels: Tensor, factor: Tensor) -> Tensor:
    """(n, 3, h, w) times (n,), within [0, 1]."""
    return (pixels * factor[:, None, None, None]).clamp_(0, 1)


def contrasted(pixels: Tensor, factor: Tensor) -> Tensor:
    """Away from, or to, the mean light of each image."""
    return blended(pixels, light(pixels).mean((2, 3), keepdim=True), factor)


def saturated(pixels: Tensor, factor: Tensor) -> Tensor:
    """Away from, or to, the light of each pixel."""
    return blended(pixels, light(pixels), factor)


def blended(pixels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """factor pixels + (1 - factor) other, within [0, 1]; factor (n,) may be above 1."""
    factor = factor[:, None, None, None]
    return (factor * pixels + (1 - factor) * other).clamp_(0, 1)


def light(pixels: Tensor) -> Tensor:
    """(n, 3, h, w) colours -> (n, 1, h, w) luminance."""
    red, green, blue = pixels.unbind(1)
    return (LIGHT[0] * red + LIGHT[1] * green + LIGHT[2] * blue).unsqueeze(1)


def hue_turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """Hue plus `turns` (n,), in shares of the circle; value and saturation of HSV stay.

    Back from hue h: channel = v - (v - least) max(0, min(k, 4 - k, 1)), k = (o + 6 h) mod 6, with
    o = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = pixels.unbind(1)
    value, least = pixels.amax(1), pixels.amin(1)
    span = value - least
    safe = torch.where(span > 0, span, 1.0)
    of_red, of_green = (green - blue) / safe, (blue - red) / safe + 2
    of_blue = (red - green) / safe + 4
    six = torch.where(value == red, of_red, torch.where(value == green, of_green, of_blue))
    six = six + 6 * turns[:, None, None]
    offsets = torch.tensor([5.0, 3.0, 1.0], device=pixels.device).view(3, 1, 1)
    k = (six[:, None] + offsets) % 6
    kept = torch.minimum(k, 4 - k).clamp(0, 1)
    return (value[:, None] - span[:, None] * kept).clamp_(0, 1)
