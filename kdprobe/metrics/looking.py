"""What do the metrics of concepts have to see, and what does it tell?  One way for all estimators.

Axes: k checkpoints, n images, q units, u replicates, b thresholds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.contract import Array, Seen
from kdprobe.metrics.discarding import ON_OBJECT, background_level, concepts, entropy
from kdprobe.metrics.scope import Scope
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import mean_of_defined
from kdprobe.study import Checkpoint, Run, Study

EFFECTIVE_FROM = 40 / 150  # of the training: where the paper's filter of images begins


@dataclass(frozen=True)
class Objects:
    """Where the objects are, in units, and the images themselves where they can be shown."""

    on: Array  # (n, q) bool, a unit of the object
    off: Array  # (n, q) bool, a unit of the background; neither where an image lacks the unit
    labels: Array  # (n,)
    pixels: Array | None  # (n, h, w, 3) uint8; None for sequences
    mask: Array | None  # (n, h, w) uint8
    members: Array | None  # (n, h, w) unit of every pixel, -1 = of none


@dataclass(frozen=True)
class Quality:
    """How well an estimator did on every image."""

    converged: Array  # (n,) bool
    distortion: Array  # (n,) normalised feature loss; lam / 2 at the optimum of a linear layer


@dataclass(frozen=True)
class ConceptLook:
    """The sights that concepts need, and how to read them."""

    scope: Scope
    study: Study
    _effective: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scope.has_masks and self.scope.discarding.object == "mask":
            raise NotApplicable(
                f"needs object masks; data set {self.scope.dataset!r} has none; "
                "--set discarding.object=centre takes the centre of every image for the object"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Where concepts are looked for."""
        return self.scope.layers

    @property
    def pictures(self) -> Sight:
        """The images themselves."""
        cut = self.scope.discarding
        sampled = (cut.estimator, cut.units, cut.object) == ("paper", "cells", "mask")
        return sight(
            "pictures",
            images=self.scope.images,
            units=cut.units,
            grid=cut.grid,
            object="sampled" if sampled else cut.object,
        )

    def at(self, checkpoint: Checkpoint) -> Sight:
        """What the estimator sees of one checkpoint."""
        cut = self.scope.discarding
        return sight(
            cut.estimator, checkpoint, images=self.scope.images, layers=self.layers, **cut.asked
        )

    def objects(self, seen: Seen) -> Objects:
        """The images, with the object as units."""
        found = seen[self.pictures]
        present, covered = found["sizes"] > 0, found["coverage"] >= ON_OBJECT
        return Objects(
            present & covered,
            present & ~covered,
            found["labels"],
            *(found.get(name) for name in ("pixels", "object", "members")),
        )

    def entropies(self, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str) -> Array:
        """(k, n, q) nats at `layer` of every checkpoint; NaN for images that are left out."""
        h = np.stack([self._entropy(seen, c, layer) for c in checkpoints])
        return np.where(self._counted(seen, layer)[:, None], h, np.nan)

    def replicates(
        self, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str
    ) -> Iterator[Array]:
        """Entropies (k, n, q) again and again, as fresh chance would have given them.

        They are as far from `entropies` as those are from the truth; the same chance for all
        checkpoints in each. None where no chance has a part.
        """
        yield from self._again(seen, checkpoints, layer, self.choices(seen, checkpoints[-1], layer))

    def restarts(
        self, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str
    ) -> Iterator[Array]:
        """Entropies (k, n, q) by every group of random draws alone: independent, but less sure."""
        groups = seen[self.at(checkpoints[-1])].get(f"groups/{layer}", ())
        alone = [[index] for index in range(len(groups))]
        yield from self._again(seen, checkpoints, layer, alone)

    def _again(
        self,
        seen: Seen,
        checkpoints: Sequence[Checkpoint],
        layer: str,
        choices: Sequence[Sequence[int]],
    ) -> Iterator[Array]:
        keep = self._counted(seen, layer)[:, None]
        for which in choices:
            h = np.stack([self._entropy(seen, c, layer, which) for c in checkpoints])
            yield np.where(keep, h, np.nan)

    def choices(self, seen: Seen, checkpoint: Checkpoint, layer: str) -> list[list[int]]:
        """The groups of random draws that make each replicate.

        Half of the groups, balanced (McCarthy 1969): half of the draws is as far from all of them
        as all are from the truth. The paper's restarts are whole estimates: each stands alone.
        """
        groups = seen[self.at(checkpoint)].get(f"groups/{layer}")
        if groups is None:
            return []
        if self.scope.discarding.estimator == "paper":
            return [[index] for index in range(len(groups))]
        return balanced_halves(len(groups))

    @property
    def lost(self) -> int:
        """Degrees of freedom that the spread of replicates loses: halves are about their whole."""
        return 1 if self.scope.discarding.estimator == "paper" else 0

    def quality(self, seen: Seen, checkpoint: Checkpoint, layer: str) -> Quality | None:
        """How well the estimator did; None for the closed form, which has nothing to converge."""
        found = seen[self.at(checkpoint)]
        if f"converged/{layer}" not in found:
            return None
        return Quality(found[f"converged/{layer}"].astype(bool), found[f"distortion/{layer}"])

    def found(self, h: Array, objects: Objects) -> Array:
        """(b, ..., n, q) bool: all concepts, on the object and off it, of entropies (..., n, q)."""
        cut = self.scope.discarding
        return concepts(h, background_level(h, objects.off, cut.level), cut.thresholds)

    def _counted(self, seen: Seen, layer: str) -> Array:
        """(n,) bool: the images whose concepts can be told: effective, and with a reference."""
        off = self.objects(seen).off.any(-1)
        compared = off if self.scope.discarding.level == "image" else np.full_like(off, off.any())
        return np.asarray(self.effective(seen, layer) & compared)

    def dead(self, seen: Seen, checkpoint: Checkpoint, layer: str) -> Array:
        """(n,) bool: images with units, on which no output of the layer depends on any of them."""
        there = (seen[self.pictures]["sizes"] > 0).any(-1)
        return np.asarray(there & np.isnan(self._entropy(seen, checkpoint, layer)).all(-1))

    def effective(self, seen: Seen, layer: str) -> Array:
        """(n,) bool: the images that the paper's filter keeps; all for the other estimators.

        At every checkpoint from 40 / 150 of the training on, and for all learners, the background's
        mean entropy must not be below the object's.
        """
        if layer not in self._effective:
            self._effective[layer] = self._filtered(seen, layer)
        return self._effective[layer]

    def _filtered(self, seen: Seen, layer: str) -> Array:
        objects = self.objects(seen)
        keep = np.ones(len(objects.on), dtype=bool)
        epochs = self.study.common_epochs()
        if self.scope.discarding.estimator != "paper" or not epochs:
            return keep
        late = [epoch for epoch in epochs if epoch >= EFFECTIVE_FROM * epochs[-1]]
        for checkpoint in (c for run in self.study.learners for c in run.at(late)):
            h = self._entropy(seen, checkpoint, layer)
            inside, outside = (
                mean_of_defined(np.where(side, h, np.nan)) for side in (objects.on, objects.off)
            )
            keep &= outside >= inside
        return keep

    def _entropy(
        self, seen: Seen, checkpoint: Checkpoint, layer: str, which: Sequence[int] = ()
    ) -> Array:
        """(n, q), from all random draws or from the groups `which`."""
        found, cut = seen[self.at(checkpoint)], self.scope.discarding
        kind = "energy" if f"energy/{layer}" in found else "entropy"
        values = (
            found[f"groups/{layer}"][list(which)].mean(0) if which else found[f"{kind}/{layer}"]
        )
        if kind == "entropy":
            return np.asarray(values, dtype=np.float64)
        return entropy(values, cut.lam, cut.noise, seen[self.pictures]["sizes"] > 0)


def balanced_halves(groups: int) -> list[list[int]]:
    """Halves of an even number of groups whose deviations are uncorrelated, then their rests.

    By the rows of a Hadamard matrix; `groups` is a power of two.
    """
    from scipy.linalg import hadamard

    rows = hadamard(groups)[1:]
    return [np.flatnonzero(row == sign).tolist() for sign in (1, -1) for row in rows]


def learners(study: Study) -> tuple[tuple[Run, ...], tuple[int, ...]]:
    """Baselines, students and controls, and the epochs that all of them have.

    Raises:
        NotApplicable: there is no such run, or fewer than two common checkpoints.
    """
    runs = study.learners
    if not runs:
        raise NotApplicable("needs a student or a baseline; this study has only a teacher")
    epochs = study.common_epochs()
    if len(epochs) < 2:
        raise NotApplicable(
            f"needs at least two checkpoints at the same epochs in every run, found {len(epochs)}"
        )
    return runs, epochs
