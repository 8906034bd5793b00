"""What a probe looks through: the device, the sample of images, and the networks on that device."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

import torch

from kdprobe.batches import rows_that_fit
from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.loading import load_images, load_network
from kdprobe.manifest import DataEntry
from kdprobe.models.contract import Network
from kdprobe.study import Checkpoint


@lru_cache(maxsize=2)
def _test_split(data: str, allowed: Collection[str]) -> Images:
    return load_images(DataEntry.model_validate_json(data), "test", allowed)


def test_images(data: DataEntry, allowed: Collection[str]) -> Images:
    """The test split of `data`, made once in this process."""
    return _test_split(data.model_dump_json(), frozenset(allowed))


@dataclass(frozen=True)
class Lens:
    """Lends networks and images, on one device."""

    device: torch.device
    data: DataEntry
    count: int  # images in the sample
    seed: int
    allowed: frozenset[str] = field(default_factory=frozenset)
    chosen: Images | None = None  # instead of a sample

    @property
    def images(self) -> Images:
        """The sample: the same for every network, layer and checkpoint. On the CPU."""
        if self.chosen is not None:
            return self.chosen
        return test_images(self.data, self.allowed).sample(self.count, self.seed)

    @property
    def classes(self) -> tuple[str, ...]:
        """The data's classes."""
        known = self.chosen or test_images(self.data, self.allowed)
        return known.classes

    def network(self, checkpoint: Checkpoint) -> Network:
        """The network of `checkpoint`, frozen, in evaluation mode, its classes as the data's."""
        network = load_network(checkpoint, self.device, self.allowed)
        ours = checkpoint.network.classes
        return network.ordered(ours, self.classes) if ours else network

    def rows(self, network: Network, images: Images) -> int:
        """How many images one batch of `network` may hold."""
        return rows_that_fit(network, images.pixels[:1].to(self.device))

    def generator(self, purpose: int = 0) -> torch.Generator:
        """Chance with a name: the same stream for every network, on every device."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + purpose)

    def must_have_classes(self, checkpoint: Checkpoint, images: Images) -> None:
        """Raise InputError when a network and the data have different numbers of classes."""
        found, wanted = checkpoint.network.num_classes, len(images.classes)
        if found != wanted:
            raise InputError(
                f"run {checkpoint.run!r} has {found} classes, the data set has {wanted}; "
                "analyse it on the data that it was trained for"
            )
