"""What do the networks see, and in which order?  Shuffled batches, each image a little shifted.

Axes: n images, h and w pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.datasets.contract import Images
from kdprobe.train.chance import generator


class Split(NamedTuple):
    """Images and labels on the device that trains."""

    pixels: Tensor  # (n, 3, h, w) in [0, 1]
    labels: Tensor  # (n,) int64


def on_device(images: Images, device: torch.device) -> Split:
    return Split(images.pixels.to(device), images.labels.to(device))


def batches(split: Split, *, seed: int, epoch: int, size: int, shift: int) -> Iterator[Split]:
    """All images once, in the order of (seed, epoch); the last batch may be short."""
    device, total = split.pixels.device, len(split.pixels)
    order = torch.randperm(total, generator=generator(seed, epoch, "order")).to(device)
    chance = generator(seed, epoch, "shift")
    moves = torch.randint(0, 2 * shift + 1, (total, 2), generator=chance).to(device)
    for start in range(0, total, size):
        rows = order[start : start + size]
        view = shifted(split.pixels[rows], moves[start : start + size], shift)
        yield Split(view, split.labels[rows])


def shifted(pixels: Tensor, moves: Tensor, shift: int) -> Tensor:
    """Crop each image out of its mirrored surroundings, `shift` pixels wide.

    Args:
        pixels: (n, 3, h, w).
        moves: (n, 2) whole numbers from 0 to 2 * shift, the crop's upper left corner;
            (shift, shift) leaves the image where it is.
        shift: pixels; 0 = off.
    """
    if shift == 0:
        return pixels
    height, width = pixels.shape[2:]
    around = F.pad(pixels, (shift, shift, shift, shift), mode="reflect")
    windows = around.unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(pixels), device=pixels.device)
    return windows[rows, :, moves[:, 0], moves[:, 1]]
