"""What was asked for?  The settings of an analysis that all metrics share.

kdprobe analyze STUDY --estimator fit --set discarding.b=1
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdprobe.errors import NotApplicable, UsageError
from kdprobe.probes.contract import IMAGENET_SD

CHOICES = {
    "estimator": ("jacobian", "fit", "paper"),
    "units": ("cells", "parts", "tokens"),
    "match": ("weight", "distortion", "entropy"),
    "level": ("data", "image"),
    "object": ("mask", "centre"),
}
OWN = {  # what the probe of each estimator is told, besides what all are
    "jacobian": ("noise", "relu", "probes", "noises", "radius", "exact"),
    "fit": ("noise", "relu", "steps", "draws", "tolerance", "match"),
    "paper": ("restarts",),
}


@dataclass(frozen=True)
class Discarding:
    """How visual concepts are found (``--set discarding.b=1``); see metrics/discarding.py.

    Settings of one estimator mean nothing to the others, and are refused there.
    """

    estimator: str = "jacobian"  # or fit, or paper
    b: float = 0.2  # nats; the paper's threshold
    sweep: tuple[float, ...] = (0.2, 0.5, 1.0, 1.5, 2.0)  # nats
    level: str = "data"  # background's level: mean over the data set (the paper's), or each image's
    object: str = "mask"  # or centre: the central 3/4 a side, as the paper does without masks
    units: str = "cells"  # what shares one noise scale: cells of a grid, parts, or tokens
    grid: int = 16  # cells a side
    lam: float = 6.0  # the paper's weight of the entropy for ResNets; cancels in counts
    noise: float = 0.01 * IMAGENET_SD  # unit of change: the paper's 0.01, of pixels in [0, 1]
    relu: bool = False  # count only what is positive of a layer's output
    probes: int = 96  # jacobian: of a layer
    noises: int = 48  # jacobian: noisy points that the probes are taken at
    radius: float = 3**-0.5  # jacobian: of that noise; 0 = the limit of small noise
    exact: int = 64  # jacobian at radius 0: up to so many outputs are differentiated one by one
    steps: int = 200  # fit: at most
    draws: int = 8  # fit: noises a step, shared by its independent chains
    tolerance: float = 0.2  # fit: nats between the halves of a converged tail, root mean square
    match: str = "weight"  # fit: equal lam, equal distortion, or equal mean entropy
    restarts: int = 3  # paper: independent estimates

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"setting discarding.{name} is {getattr(self, name)!r}; "
                    f"wanted {', '.join(known)}"
                )
        for name, least in {"probes": 2, "noises": 4, "restarts": 2}.items():
            if getattr(self, name) < least:
                alone = "one pair" if least == 4 else "one"
                raise UsageError(
                    f"setting discarding.{name} is {getattr(self, name)}; wanted at least {least}: "
                    f"{alone} alone does not show its error"
                )
        for name in ("lam", "noise", "tolerance"):
            if getattr(self, name) <= 0:
                raise UsageError(
                    f"setting discarding.{name} is {getattr(self, name):g}; wanted above 0"
                )
        self._fitting_probes()

    def _fitting_probes(self) -> None:
        if self.radius < 0:
            raise UsageError(f"setting discarding.radius is {self.radius:g}; wanted 0 or more")
        if self.noises % 2:
            raise UsageError(
                f"setting discarding.noises is {self.noises}; wanted an even number: noise is "
                "drawn in opposite pairs"
            )
        if self.draws % 4:
            raise UsageError(
                f"setting discarding.draws is {self.draws}; wanted a multiple of 4: opposite pairs "
                "of noises for each of at least two chains"
            )
        if self.radius > 0 and self.probes < self.noises:
            raise UsageError(
                f"found discarding.probes={self.probes} and discarding.noises={self.noises}; "
                "wanted at least one probe at every noisy point: raise probes or lower noises"
            )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """b and the sweep, ascending."""
        return tuple(sorted({float(self.b), *map(float, self.sweep)}))

    @property
    def headline(self) -> int:
        """The place of b among the thresholds."""
        return self.thresholds.index(float(self.b))

    @property
    def asked(self) -> dict[str, str | int | float]:
        """What the estimator's probe is told, besides the layers."""
        told = ("units", "grid", "lam", *OWN[self.estimator])
        return {name: getattr(self, name) for name in told}


@dataclass(frozen=True)
class Scope:
    """What the user asked for and what the data holds: applies to all metrics."""

    layers: tuple[str, ...]  # where concepts are looked for, from input to output
    images: int  # in the sample for concepts, where there are so many
    available: int  # images in the test split
    dataset: str
    classes: tuple[str, ...]
    has_masks: bool
    similarity_layers: Mapping[str, tuple[str, ...]]  # of each run: all its named taps
    seed: int = 0
    discarding: Discarding = Discarding()

    def enough(self, metric: str, images: int, fewest: int, k: int = 0) -> int:
        """How many images there are of the `images` that `metric` is set to.

        Raises:
            NotApplicable: fewer than `fewest`, which half samples with `k` neighbours may need.
        """
        count = min(images, self.available)
        if count < fewest:
            remedy = f"raise {metric}.images" if images < fewest else "add test images"
            why = f" for half samples with k = {k} neighbours" if k else ""
            remedy += f" or lower {metric}.k" if k else ""
            raise NotApplicable(f"needs at least {fewest} images{why}, found {count}; {remedy}")
        return count


def must_be_read(chosen: Mapping[str, Any]) -> None:
    """Raise UsageError for a chosen setting of concepts that only other estimators read."""
    estimator = chosen.get("estimator", Discarding.estimator)
    for name in chosen if estimator in OWN else ():
        readers = [key for key, own in OWN.items() if name in own]
        if readers and estimator not in readers:
            raise UsageError(
                f"found discarding.{name} with the estimator {estimator}, which does not read it; "
                f"only {' and '.join(readers)} {'do' if len(readers) > 1 else 'does'}: leave it "
                f"out, or choose --estimator {readers[0]}"
            )
