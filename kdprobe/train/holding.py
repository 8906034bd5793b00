"""Which training images are kept for choosing?  A share of every class, drawn by seed.

    q = (i + 1/2) / n_c      i: an image's place in its class, in an order drawn by chance

The images with the least q are held out: every class gives its share, to within one image, and all
together exactly the share that is asked for. The last image of a class is never held out.

Axes: n images, of which n_c are of class c.
"""

import torch
from torch import Tensor

from kdprobe.errors import InputError
from kdprobe.train.chance import generator


def held_out(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Part the images into those to learn from and those that only choose.

    Args:
        labels: (n,) int64, on the CPU.
        share: of the images to hold out, 0 to below 1; 0 = none, else at least one image.
        seed: another one, another choice.

    Returns:
        Two rising rows of indices, int64: for training and for validation.

    Raises:
        InputError: `share` is no such number, or the classes have too few images for it.
    """
    if isinstance(share, (bool, str)) or not 0 <= share < 1:
        raise InputError(f"found a validation share of {share}; wanted a number from 0 to below 1")
    total = max(round(share * len(labels)), 1) if share else 0
    order = torch.randperm(len(labels), generator=generator(seed, 0, "held out"))
    places, counts = places_in_class(labels, order), labels.bincount()[labels]
    spare = int((places < counts - 1).sum())
    if total > spare:
        raise InputError(
            f"found {len(labels)} images, of which {spare} can be spared without emptying a class; "
            f"wanted to hold out {total}: lower the validation share, or take more images"
        )
    quantile = ((places + 0.5) / counts).masked_fill(places == counts - 1, 1.0)
    held = order[quantile[order].argsort(stable=True)[:total]]  # ties as the order has them
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero().squeeze(1), held.sort().values


def places_in_class(labels: Tensor, order: Tensor) -> Tensor:
    """(n,) int64: how many images of its class come before each image in `order` (n,)."""
    grouped = labels[order].argsort(stable=True)
    counts = labels.bincount()
    first = (counts.cumsum(0) - counts)[labels[order[grouped]]]
    places = torch.empty_like(labels)
    places[order[grouped]] = torch.arange(len(labels)) - first
    return places
