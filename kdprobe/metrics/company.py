"""Who is alike whom?  A teacher and its learners on the same images, by every measure and layer.

Axes: u measures, l layers, r learners, n images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kdprobe.metrics.contract import Array
from kdprobe.metrics.geometry import Shapes, in_parts
from kdprobe.metrics.measures import Choice, Measure


@dataclass(frozen=True)
class Company:
    """Networks whose equal layers are compared, and how."""

    teacher: Shapes  # (l, n, n)
    learners: Shapes  # (r, l, n, n)
    measures: Sequence[Measure]
    choice: Choice

    @property
    def images(self) -> int:
        return int(self.teacher.grams.shape[-1])

    @property
    def layers(self) -> range:
        return range(len(self.teacher.grams))

    @property
    def constant(self) -> Array:
        """(l, 1 + r) whose layers give every image the same; the teacher comes first."""
        return np.concatenate([self.teacher.constant[:, None], self.learners.constant.T], axis=1)

    def at(self, layer: int) -> tuple[Shapes, Shapes]:
        """A layer of the teacher (n, n) and of the learners (r, n, n); stand-ins where constant."""
        return self.teacher.at(layer).filled, self.learners.at(slice(None), layer).filled

    def with_the_teacher(self, rows: Array) -> Array:
        """(u, l, r) likeness of the learners to the teacher on the images at `rows` alone."""
        found = []
        for layer in self.layers:
            theirs, ours = (side.of(rows).filled for side in self.at(layer))
            found.append([m.compare(*self._described(m, theirs, ours)) for m in self.measures])
        gone = self.constant[:, :1] | self.constant[:, 1:]
        return np.where(gone, np.nan, np.array(found).swapaxes(0, 1))

    def each_with_each(self, firsts: Sequence[int], orders: Array) -> tuple[Array, Array]:
        """(u, l, 1 + r, 1 + r) likeness of all networks, and (u, l, a, draws) likeness to the
        teacher of the learners `firsts` (a,) when its images are in other `orders`.
        """
        pairs, draws = [], []
        for layer in self.layers:
            sides = self.at(layer)
            found = [(m, *self._described(m, *sides)) for m in self.measures]
            pairs.append([among(*one) for one in found])
            draws.append(
                [[by_chance(m, one, two[r], orders) for r in firsts] for m, one, two in found]
            )
        gone = self.constant[:, :, None] | self.constant[:, None, :]
        lost = gone[:, 0, 1 + np.asarray(firsts)][:, :, None]
        every: Array = np.array(pairs)
        shuffled: Array = np.array(draws)
        return (
            np.where(gone, np.nan, every.swapaxes(0, 1)),
            np.where(lost, np.nan, shuffled.swapaxes(0, 1)),
        )

    def _described(self, measure: Measure, theirs: Shapes, ours: Shapes) -> tuple[Array, Array]:
        return measure.describe(theirs, self.choice), measure.describe(ours, self.choice)


def among(measure: Measure, teacher: Array, learners: Array) -> Array:
    """(1 + r, 1 + r) of described layers, each with each; 1 with itself."""
    found = np.zeros((1 + len(learners), 1 + len(learners)))
    found[0, 1:] = measure.compare(teacher, learners)
    for place in range(len(learners) - 1):
        found[1 + place, 2 + place :] = measure.compare(learners[place], learners[place + 1 :])
    return np.asarray(found + found.T + np.eye(len(found)))


def by_chance(measure: Measure, teacher: Array, learner: Array, orders: Array) -> Array:
    """(draws,) likeness of two described layers when the images of one are in other `orders`."""
    found = [measure.compare(measure.shuffled(teacher, some), learner) for some in in_parts(orders)]
    return np.concatenate(found)
