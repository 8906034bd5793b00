"""How much does a layer forget of every cell?  Entropy of the noise it cannot tell from the image.

    H_c = log s_c + 0.5 log(2 pi e)          nats; small = kept, large = discarded

where s minimises the loss of Cheng et al. 2020 (arXiv:2003.03622, equations 1-3). In the limit of
small noise the minimum is known (see `entropy`), so no fit is run. A visual concept is a cell
that is discarded significantly less than the background: Hbar - H_c > b.

Axes: k checkpoints, n images, g grid cells a side, b thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdprobe.errors import NotApplicable
from kdprobe.metrics.contract import Array, Scope, Seen
from kdprobe.probes.contract import Sight, sight
from kdprobe.stats import mean_of_defined
from kdprobe.study import Checkpoint, Run, Study

UNIFORM_NOISE = 0.01  # standard deviation of the noise that sets the unit of feature change
FLOOR = 1e-12  # of the mean energy: a cell that no output depends on has a finite, huge entropy
ON_OBJECT = 0.5  # a cell is on the object when the object covers at least half of it


def entropy(energy: Array, lam: float) -> Array:
    """Entropy of every cell, in nats, from Jacobian energies (..., g, g); NaN for a dead layer.

        H_c = 0.5 log(2 pi e) + 0.5 log( lam sigma^2 sum_j g_j / (2 C g_c) ),   C cells

    sigma is UNIFORM_NOISE. Derived from the loss by putting its gradient to zero under a linear
    layer; lam moves all entropies alike and cancels in every concept count.
    """
    g = np.asarray(energy, dtype=np.float64)
    total = g.sum(axis=(-2, -1), keepdims=True)
    cells = g.shape[-1] * g.shape[-2]
    with np.errstate(divide="ignore", invalid="ignore"):
        floored = np.maximum(g, FLOOR * total / cells)
        ratio = lam * UNIFORM_NOISE**2 * total / (2 * cells * floored)
        result: Array = 0.5 * np.log(2 * np.pi * np.e) + 0.5 * np.log(ratio)
    return np.where(total > 0, result, np.nan)


def entropy_error(energy: Array, error: Array) -> Array:
    """Standard error of the entropy, nats, from that of the energy (first order)."""
    g = np.asarray(energy, dtype=np.float64)
    floor = FLOOR * g.sum(axis=(-2, -1), keepdims=True) / (g.shape[-1] * g.shape[-2])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * error / np.maximum(g, floor))


def background_level(h: Array, on: Array) -> Array:
    """Hbar (...,): mean over images of the mean entropy off the object; h (..., n, g, g).

    Over the images that have a background and a live layer; NaN where none has.
    """
    off = np.where(on, np.nan, h)
    return mean_of_defined(mean_of_defined(off.reshape(*off.shape[:-2], -1)))


def concepts(h: Array, level: Array, thresholds: Sequence[float]) -> Array:
    """Which cells are visual concepts: h (..., n, g, g), level (...,) -> (b, ..., n, g, g) bool."""
    kept = np.asarray(level)[..., None, None, None] - h
    b = np.asarray(thresholds).reshape(-1, *([1] * kept.ndim))
    with np.errstate(invalid="ignore"):
        return np.asarray(kept[None] > b)


@dataclass(frozen=True)
class Objects:
    """Where the objects are."""

    on: Array  # (n, g, g) bool, True on the object
    labels: Array  # (n,)
    pixels: Array  # (n, h, w, 3) uint8
    mask: Array  # (n, h, w) uint8


@dataclass(frozen=True)
class ConceptLook:
    """The sights that concepts need, and how to read them."""

    scope: Scope

    def __post_init__(self) -> None:
        if not self.scope.has_masks:
            raise NotApplicable(f"needs object masks; data set {self.scope.dataset!r} has none")

    @property
    def layers(self) -> tuple[str, ...]:
        """Where concepts are looked for."""
        return self.scope.layers

    @property
    def pictures(self) -> Sight:
        """The images themselves."""
        return sight("pictures", images=self.scope.images, grid=self.scope.discarding.grid)

    def at(self, checkpoint: Checkpoint) -> Sight:
        """The Jacobian energies of one checkpoint."""
        how = self.scope.discarding
        return sight(
            "jacobian",
            checkpoint,
            images=self.scope.images,
            layers=self.layers,
            grid=how.grid,
            probes=how.probes,
            exact=how.exact,
        )

    def objects(self, seen: Seen) -> Objects:
        """The images, with the object as cells."""
        found = seen[self.pictures]
        on = found["coverage"] >= ON_OBJECT
        return Objects(on, found["labels"], found["pixels"], found["object"])

    def entropies(self, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str) -> Array:
        """(k, n, g, g) nats at `layer` of every checkpoint."""
        energy = np.stack([seen[self.at(c)][f"energy/{layer}"] for c in checkpoints])
        return entropy(energy, self.scope.discarding.lam)

    def kept_on_objects(self, seen: Seen, checkpoints: Sequence[Checkpoint], layer: str) -> Array:
        """(b, k, n, g, g) bool: the task-relevant concepts of every checkpoint."""
        h, on = self.entropies(seen, checkpoints, layer), self.objects(seen).on
        found = concepts(h, background_level(h, on), self.scope.discarding.thresholds)
        return np.asarray(found & on)

    def errors(self, seen: Seen, checkpoint: Checkpoint, layer: str) -> Array:
        """(n, g, g) standard errors of the entropies of one checkpoint, nats."""
        found = seen[self.at(checkpoint)]
        return entropy_error(found[f"energy/{layer}"], found[f"error/{layer}"])

    def halves(self, seen: Seen, checkpoint: Checkpoint, layer: str) -> Array:
        """(u, n, g, g) nats from every half of the groups of probes; u = 0 where it is exact."""
        found = seen[self.at(checkpoint)]
        groups = found.get(f"groups/{layer}", np.zeros((0, *found[f"energy/{layer}"].shape)))
        half = len(groups) // 2
        choices = list(combinations(range(len(groups)), half)) if half else []
        energy = np.stack([groups[list(some)].mean(0) for some in choices]) if choices else groups
        return entropy(energy, self.scope.discarding.lam)


def learners(study: Study) -> tuple[tuple[Run, ...], tuple[int, ...]]:
    """Baselines and students, and the epochs that all of them have.

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
