"""Where does training happen?  The data on its device, the folder, and the finished teacher.

Axes: n images, c classes.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.manifest import NetworkEntry
from kdprobe.models.contract import Network
from kdprobe.train.settings import Model, Recipe
from kdprobe.train.views import Split

ROWS = 256  # images a batch in evaluation; fixed, so that bits do not depend on free memory


@dataclass(frozen=True)
class Progress:
    """A sign of life."""

    what: str  # such as "seed0, epoch 3 of 12"
    done: int  # optimiser steps of this cohort
    total: int


@dataclass(frozen=True)
class Place:
    """Where training happens, and on what."""

    recipe: Recipe
    folder: Path
    device: torch.device
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: Mapping[str, Any]  # of data and environment, for every run.json
    progress: Callable[[Progress], None]

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch; the last one may see a shorter batch."""
        return -(-len(self.train.labels) // self.recipe.optimizer.batch_size)

    def entry(self, model: Model) -> NetworkEntry:
        """How a model of the recipe is built on this data."""
        return NetworkEntry(
            name=model.name,
            num_classes=self.classes,
            arguments=model.arguments,
            mean=self.mean,
            std=self.std,
        )


@dataclass(frozen=True)
class TeacherView:
    """The finished teacher, as its last file holds it."""

    network: Network
    test_logits: Tensor  # (n, c)
    record: Mapping[str, Any]  # for run.json


def teacher_view(place: Place, network: Network, file: Path) -> TeacherView:
    """Measure the teacher that was read from `file`."""
    logits = logits_of(network, place.test.pixels)
    record = {
        "run": "teacher",
        "file": file.relative_to(place.folder).as_posix(),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "test_accuracy": share(logits.argmax(1) == place.test.labels),
    }
    return TeacherView(network, logits, record)


@torch.no_grad()
def logits_of(network: Network, pixels: Tensor) -> Tensor:
    """(n, 3, h, w) pixels -> (n, c) logits in evaluation mode; the mode is given back."""
    was_training = network.training
    network.eval()
    try:
        starts = range(0, len(pixels), ROWS)
        return torch.cat([network(pixels[start : start + ROWS]) for start in starts])
    finally:
        network.train(was_training)


def share(hits: Tensor) -> float:
    """The part of (n,) bool that is True."""
    return float(hits.double().mean())
