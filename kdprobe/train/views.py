"""What do the networks see, and in which order?  Shuffled batches, each image a little changed.

Axes: n images, m of them in training, h and w pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kdprobe.expression import Call
from kdprobe.train.augmentations.contract import View
from kdprobe.train.augmenting import augmented
from kdprobe.train.chance import draw_seed, generator


@dataclass(frozen=True)
class Share:
    """A part of a data set on the device that trains; the pixels may belong to other parts too."""

    pixels: Tensor  # (n, 3, h, w) in [0, 1]
    rows: Tensor  # (m,) int64, which of them
    labels: Tensor  # (m,) int64, as they are given
    clean: Tensor  # (m,) int64, the true ones

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, places: Tensor) -> "Seen":
        """The images at `places` of the m, as they are."""
        pixels = self.pixels.index_select(0, self.rows[places])  # thrice as fast as []
        return Seen(pixels, self.labels[places], places)


class Seen(NamedTuple):
    """A batch."""

    pixels: Tensor  # (b, 3, h, w) in [0, 1]
    target: Tensor  # (b,) int64, or (b, c) where images were mixed
    places: Tensor  # (b,) int64, of the m


@dataclass(frozen=True)
class Order:
    """How an epoch goes through a share, and what is changed in its images."""

    seed: int
    size: int  # images a step, over all processes
    shift: int
    augment: Sequence[Call]
    classes: int
    process: int = 0
    processes: int = 1


def batches(share: Share, order: Order, epoch: int) -> Iterator[tuple[Seen, int]]:
    """All images once, in the order of (seed, epoch), each with the size of the whole batch.

    Of several processes each changes the whole batch and keeps its part: they see what one alone
    would. The last batch may be short.
    """
    device, total = share.rows.device, len(share)
    places = torch.randperm(total, generator=generator(order.seed, epoch, "order")).to(device)
    chance = generator(order.seed, epoch, "shift")
    moves = torch.randint(0, 2 * order.shift + 1, (total, 2), generator=chance).to(device)
    part = slice(order.process, None, order.processes)
    for step, start in enumerate(range(0, total, order.size)):
        seen = share.sample(places[start : start + order.size])
        view = shifted(seen.pixels, moves[start : start + order.size], order.shift)
        seen = _changed(seen._replace(pixels=view), order, epoch, step)
        yield Seen(*(values[part] for values in seen)), len(view)


def _changed(seen: Seen, order: Order, epoch: int, step: int) -> Seen:
    if not order.augment:
        return seen
    view = View(seen.pixels, seen.target, order.classes)
    view = augmented(view, order.augment, draw_seed(order.seed, epoch, f"views of step {step}"))
    return Seen(view.pixels, view.target, seen.places)


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
