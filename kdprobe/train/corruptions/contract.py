"""What a corruption is: which training images are taken, how often, and with which labels.

A function ``corrupt(labels, classes, chance, **knobs) -> Taken`` over indices. The images are not
touched, and the trainer keeps the true labels beside the given ones for the measures. Several are
applied one after another (``corrupt = ["power_law(gamma=0.2)", "label_noise(rate=0.4)"]``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kdprobe.registry import Catalogue


@dataclass(frozen=True)
class Taken:
    """What is left of n images. Axes: m images that are taken."""

    rows: Tensor  # (m,) int64, index into the n; may hold an image more than once
    labels: Tensor  # (m,) int64, the labels to learn from


@dataclass(frozen=True)
class Corruption:
    """A corruption and its label."""

    key: str
    title: str
    source: str
    take: Callable[..., Taken]  # (labels (n,), classes, chance: torch.Generator, **knobs)


CORRUPTIONS: Catalogue[Corruption] = Catalogue("corruption", "kdprobe.train.corruptions")

Take = Callable[..., Taken]


def corruption(key: str, *, title: str, source: str) -> Callable[[Take], Take]:
    """Put the function below into CORRUPTIONS under `key`."""

    def add(take: Take) -> Take:
        CORRUPTIONS.add(key, Corruption(key, title, source, take))
        return take

    return add


def everything(labels: Tensor) -> Taken:
    """All images with their own labels."""
    return Taken(torch.arange(len(labels)), labels)
