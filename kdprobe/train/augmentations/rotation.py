"""The image turned about its middle, by an angle drawn from -degrees to degrees.

Pixels are mixed from the four nearest ones (bilinear). Where the turned image shows what lies
outside, there is its mirror image ("reflect"), or black ("zero").

Axes: n images, h and w pixels.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation

MODES = {"reflect": "reflection", "zero": "zeros"}


@augmentation("rotation", title="Turned about the middle by some degrees", source="bundled")
def rotation(
    seen: View, chance: torch.Generator, *, degrees: float = 15.0, mode: str = "reflect"
) -> View:
    """Turn by up to `degrees` either way.

    Raises:
        InputError: `degrees` is not from 0 to 180, or `mode` is unknown.
    """
    if isinstance(degrees, (bool, str)) or not 0 <= degrees <= 180:
        raise InputError(f"found degrees={degrees!r}; wanted an angle from 0 to 180")
    if mode not in MODES:
        raise InputError(f'found mode={mode!r}; wanted "reflect" or "zero"')
    draws = 2 * torch.rand(len(seen.pixels), generator=chance, dtype=torch.float64) - 1
    turns = turned_by(torch.deg2rad(degrees * draws))
    pixels = moved(seen.pixels, turns, MODES[mode])
    return seen._replace(pixels=pixels.clamp_(0, 1))  # weights may sum to 1 and a rounding error


def turned_by(angles: Tensor) -> Tensor:
    """(n,) radians, anticlockwise as one looks at the image -> (n, 2, 3) for `moved`."""
    cos, sin, none = angles.cos(), angles.sin(), torch.zeros_like(angles)
    rows = torch.stack([cos, -sin, none, sin, cos, none], 1)
    return rows.view(-1, 2, 3)


def moved(pixels: Tensor, places: Tensor, outside: str) -> Tensor:
    """Each image looked at elsewhere.

    Args:
        pixels: (n, 3, h, w).
        places: (n, 2, 3), on the CPU: from (x, y, 1) of a pixel to the (x, y) that is shown there.
            x goes right and y down from the middle, in halves of the image's longer side.
        outside: what lies beyond the image: "zeros" or "reflection".
    """
    height, width = pixels.shape[2:]
    half = torch.tensor([width, height], dtype=torch.float64) / max(height, width)
    columns = torch.cat([half, half.new_ones(1)])
    own = places.double() * columns / half[:, None]  # each axis in halves of its own side
    grid = affine_grid(own.to(pixels), list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, padding_mode=outside, align_corners=False)
