"""What does a batch look like to the networks?  Augmentations, one after another.

Each draws from a generator of its own, named by the augmentation: adding one changes the draws of
no other.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from kdprobe.errors import InputError
from kdprobe.expression import Call
from kdprobe.train.augmentations.contract import AUGMENTATIONS, View
from kdprobe.train.calls import call_faults
from kdprobe.train.chance import generator

SIDE = 256  # pixels, of the images made up to try an augmentation on


@torch.no_grad()
def augmented(seen: View, augment: Sequence[Call], seed: int) -> View:
    """The batch after all of `augment`, on the same device.

    Args:
        seen: images (n, 3, h, w) in [0, 1] with their targets; it is not changed.
        augment: such as ``parse_call("rotation(degrees=15)")``; the first comes first.
        seed: of this batch alone.

    Raises:
        UnknownName: no augmentation has such a name.
        InputError: what is seen are no images, or a setting makes no sense for them.
    """
    if augment and seen.pixels.dim() != 4:
        raise InputError(
            f"found inputs of shape {tuple(seen.pixels.shape)} to augment; wanted images "
            "(n, 3, h, w): leave augment= out for sequences"
        )
    before = Counter[str]()
    for call in augment:
        chance = generator(seed, 0, f"augmentation {call.name} {before[call.name]}")
        before[call.name] += 1
        seen = AUGMENTATIONS[call.name].view(seen, chance, **dict(call.knobs))
    return seen


def augmentation_faults(text: str) -> Iterator[str]:
    """What is wrong with one augmentation, before there are images: found and wanted."""
    known = {key: AUGMENTATIONS[key].view for key in AUGMENTATIONS}
    yield from call_faults(text, known, _attempt)


def _attempt(call: Call) -> None:
    grey = View(torch.full((2, 3, SIDE, SIDE), 0.5), torch.tensor([0, 1]), 2)
    augmented(grey, (call,), 0)
