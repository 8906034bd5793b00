"""Left becomes right, with probability p, each image for itself.

Source: Krizhevsky, Sutskever and Hinton 2012, ImageNet Classification with Deep Convolutional
Neural Networks, section 4.1.
"""

import torch

from kdprobe.errors import InputError
from kdprobe.train.augmentations.contract import View, augmentation


@augmentation("flip", title="Mirrored left to right", source="Krizhevsky et al. 2012, section 4.1")
def flip(seen: View, chance: torch.Generator, *, p: float = 0.5) -> View:
    """Mirror with probability `p`. Raises InputError where it is not from 0 to 1."""
    if isinstance(p, (bool, str)) or not 0 <= p <= 1:
        raise InputError(f"found p={p!r}; wanted a probability, from 0 to 1")
    turned = (torch.rand(len(seen.pixels), generator=chance) < p).to(seen.pixels.device)
    pixels = torch.where(turned[:, None, None, None], seen.pixels.flip(3), seen.pixels)
    return seen._replace(pixels=pixels)
