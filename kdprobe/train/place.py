"""Where does training happen?  The data on its device, the folder, and who else is at it.

Axes: n images, c classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.expression import parse_call
from kdprobe.manifest import NetworkEntry
from kdprobe.models.contract import Network
from kdprobe.train.chance import draw_seed
from kdprobe.train.plan import Cohort
from kdprobe.train.processes import Processes
from kdprobe.train.settings import Model, Recipe
from kdprobe.train.views import Order, Share

MANY = 2000  # mislabelled images that are looked at
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
    train: Share  # with the corruptions of the recipe
    whole: Share  # the same part without them
    validation: Share | None  # only chooses
    test: Share  # only reports
    names: tuple[str, ...]  # of the classes
    mean: tuple[float, ...]
    std: tuple[float, ...]
    facts: Mapping[str, Any]  # of data and environment, for every run.json
    progress: Callable[[Progress], None]
    processes: Processes = field(default_factory=Processes)
    boards: bool = False  # whether TensorBoard gets the numbers too

    def share(self, cohort: Cohort) -> Share:
        """What a cohort learns from."""
        return self.whole if cohort.clean else self.train

    def steps(self, cohort: Cohort) -> int:
        """Optimiser steps an epoch; the last one may see a shorter batch."""
        return -(-len(self.share(cohort)) // self.recipe.optimizer.batch_size)

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def mislabelled(self) -> Share | None:
        """Training images whose given label is not the true one, some of them where they are many.

        None where all labels are true.
        """
        at = (self.train.labels != self.train.clean).nonzero().squeeze(1)[:MANY]
        if not len(at):
            return None
        train = self.train
        return Share(train.pixels, train.rows[at], train.labels[at], train.clean[at])

    def order(self, cohort: Cohort) -> Order:
        """How an epoch of a cohort goes through its share."""
        data = self.recipe.data
        return Order(
            cohort.seed,
            self.recipe.optimizer.batch_size,
            data.shift,
            tuple(map(parse_call, data.augment)),
            self.classes,
            self.processes.rank,
            self.processes.count,
        )

    def entry(self, model: Model) -> NetworkEntry:
        """How a model of the recipe is built on this data."""
        return NetworkEntry(
            name=model.name,
            num_classes=self.classes,
            arguments=model.arguments,
            transforms=model.transforms,
            mean=self.mean,
            std=self.std,
        )

    def step_seed(self, cohort: Cohort, epoch: int, step: int) -> int:
        """What is drawn in a step, the same for all runs of a cohort."""
        process = f", process {self.processes.rank}" if self.processes.rank else ""
        return draw_seed(cohort.seed, epoch, f"step {step}{process}")


@torch.no_grad()
def logits_of(network: Network, share: Share) -> Tensor:
    """(n, c) logits of a share's images in evaluation mode; the mode is given back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        parts = torch.split(share.rows, ROWS)
        return torch.cat([network(share.pixels[rows]) for rows in parts]).float()
    finally:
        for module, mode in modes.items():
            module.training = mode


def right_share(hits: Tensor) -> float:
    """The part of (n,) bool that is True."""
    return float(hits.double().mean())
