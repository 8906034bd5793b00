"""The image a little off its place: a crop out of its surroundings, `pad` pixels wide.

All (2 pad + 1)^2 places are equally likely, each image's for itself. Around the image is its mirror
image ("reflect"), or black ("zero").

Source: He et al. 2016, arXiv:1512.03385, section 4.2 (zero, pad 4).
"""

import torch
from torch.nn import functional as F

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation

MODES = {"reflect": "reflect", "zero": "constant"}


@augmentation(
    "crop",
    title="Moved by some pixels: a crop out of the image's surroundings",
    source="arXiv:1512.03385, section 4.2",
)
def crop(seen: View, chance: torch.Generator, *, pad: int = 4, mode: str = "reflect") -> View:
    """Move by up to `pad` pixels both ways.

    Raises:
        InputError: `pad` is below 0 or too wide to be mirrored, or `mode` is unknown.
    """
    height, width = seen.pixels.shape[2:]
    if isinstance(pad, bool) or not isinstance(pad, int) or pad < 0:
        raise InputError(f"found pad={pad!r}; wanted a whole number of pixels, 0 or more")
    if mode not in MODES:
        raise InputError(f'found mode={mode!r}; wanted "reflect" or "zero"')
    if mode == "reflect" and pad >= min(height, width):
        raise InputError(
            f"found pad={pad} for images of {height} x {width} pixels; wanted less than their "
            'sides, for a mirror shows no more: lower pad=, or take mode="zero"'
        )
    n, device = len(seen.pixels), seen.pixels.device
    moves = torch.randint(2 * pad + 1, (2, n, 1), generator=chance).to(device)
    around = F.pad(seen.pixels, (pad, pad, pad, pad), mode=MODES[mode])
    windows = around.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(n, device=device)
    return seen._replace(pixels=windows[rows, :, moves[0, :, 0], moves[1, :, 0]])
