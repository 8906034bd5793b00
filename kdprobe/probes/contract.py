"""What a probe is: it looks at networks on images and writes down what it saw. It judges nothing.

A probe is a function ``look(subjects, lens, **settings) -> {name: tensor}``. A metric asks for a
`Sight`: which probe, at which checkpoints, on how many images, with which settings. A sight is
plain data, so it can be planned, sent to another process, and found again by its content.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdprobe.registry import Catalogue
from kdprobe.study import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from kdprobe.probes.lens import Lens


HALF_LOG_2PIE = 0.5 * math.log(2 * math.pi * math.e)  # entropy of a standard normal, nats
IMAGENET_SD = 0.226  # of a pixel in [0, 1]: the mean over the channels of ImageNet

Setting = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True)
class Sight:
    """One look: idempotent, and independent of every other."""

    probe: str
    subjects: tuple[Checkpoint, ...] = ()
    images: int = 0  # drawn from the test split; 0 where the probe needs none
    settings: tuple[tuple[str, Setting], ...] = ()

    @property
    def title(self) -> str:
        """What is being done, for progress and plans."""
        who = ", ".join(dict.fromkeys(f"{c.run} epoch {c.epoch}" for c in self.subjects[:2]))
        return f"{self.probe} {who}".strip()

    def described(self, images_digest: str) -> dict[str, Any]:
        """All that the outcome depends on: content and settings, never a file's name."""
        return {
            "probe": self.probe,
            "version": PROBES[self.probe].version,
            "subjects": [[c.digest, c.network.model_dump(mode="json")] for c in self.subjects],
            "images": [images_digest, self.images] if self.images else None,
            "settings": dict(self.settings),
        }


def sight(probe: str, *subjects: Checkpoint, images: int = 0, **settings: Setting) -> Sight:
    """Ask for a look; settings may be given in any order."""
    return Sight(probe, subjects, images, tuple(sorted(settings.items())))


@dataclass(frozen=True)
class Probe:
    """A way of looking. Raise `version` whenever its numbers change: old ones are then not used."""

    key: str
    version: int
    look: Callable[..., Mapping[str, "Tensor"]]


PROBES: Catalogue[Probe] = Catalogue("probe", "kdprobe.probes")


def probe(
    key: str, *, version: int
) -> Callable[[Callable[..., Any]], Callable[..., Mapping[str, "Tensor"]]]:
    """Put the function below into PROBES under `key`."""

    def add(look: Callable[..., Any]) -> Callable[..., Mapping[str, "Tensor"]]:
        PROBES.add(key, Probe(key, version, look))
        return look

    return add


def look_at(wanted: Sight, lens: "Lens") -> Mapping[str, "Tensor"]:
    """Do what `wanted` asks for, through `lens`."""
    return PROBES[wanted.probe].look(wanted.subjects, lens, **dict(wanted.settings))
