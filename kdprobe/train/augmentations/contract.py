"""What an augmentation is: a batch of images and targets goes in, another view comes out.

A function ``view(seen: View, chance, **knobs) -> View``, without a loop over images, on the device
of the images. What is random is drawn from `chance`, a generator on the CPU, so that every device
sees the same views. Teacher and students are shown the same view. Where images are mixed, targets
become (n, c) shares of the classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from kdprobe.registry import Catalogue


class View(NamedTuple):
    """A batch as the networks see it. Axes: n images, h and w pixels, c classes."""

    pixels: Tensor  # (n, 3, h, w) in [0, 1]
    target: Tensor  # (n,) int64 labels, or (n, c) float shares that sum to 1
    classes: int  # c


@dataclass(frozen=True)
class Augmentation:
    """An augmentation and its label."""

    key: str
    title: str
    source: str
    view: Callable[..., View]  # (seen: View, chance: torch.Generator, **knobs)


AUGMENTATIONS: Catalogue[Augmentation] = Catalogue("augmentation", "kdprobe.train.augmentations")

See = Callable[..., View]


def augmentation(key: str, *, title: str, source: str) -> Callable[[See], See]:
    """Put the function below into AUGMENTATIONS under `key`."""

    def add(view: See) -> See:
        AUGMENTATIONS.add(key, Augmentation(key, title, source, view))
        return view

    return add
