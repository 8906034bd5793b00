"""What did the networks answer?  Logits on the same images, without those that cannot be used.

Axes: n images, c classes.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from kdprobe.errors import Refused
from kdprobe.metrics.contract import Array, Seen, answered
from kdprobe.probes.contract import Sight

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Answers(Generic[K]):
    """The logits of those that gave usable ones, and why the others did not."""

    logits: Mapping[K, Array]  # (n, c) each
    labels: Array  # (n,)
    lost: tuple[str, ...]  # one sentence each

    def needed(self, key: K) -> Array:
        """The logits of one without which nothing can be said. Raises Refused if they are lost."""
        if key not in self.logits:
            raise Refused("; ".join(self.lost))
        return self.logits[key]

    def others(self, key: K) -> dict[K, Array]:
        """The logits of all but `key`. Raises Refused if there are none."""
        found = {one: logits for one, logits in self.logits.items() if one != key}
        if not found:
            raise Refused("; ".join(self.lost))
        return found


def read_answers(seen: Seen, asked: Mapping[K, Sight]) -> Answers[K]:
    """What the sights of the probe "outputs" show; networks that put out NaN are left out.

    Raises:
        Refused: nothing could be used.
    """
    found, lost = answered(seen, asked)
    usable = {}
    for key, shown in found.items():
        bad = int((~np.isfinite(shown["logits"]).all(axis=1)).sum())
        if bad:
            where = asked[key].subjects[0]
            lost.append(
                f"run {where.run!r} puts out NaN or infinity for {bad} of "
                f"{len(shown['labels'])} images at epoch {where.epoch}; train it again or take "
                "that checkpoint out of the study"
            )
        else:
            usable[key] = shown["logits"]
    if not usable:
        raise Refused(lost[0])
    return Answers(usable, next(iter(found.values()))["labels"], tuple(lost))


def every_second(labels: Array) -> Array:
    """(n,) bool: half of the images of every class, for what is fitted on one half alone."""
    rank = np.empty(len(labels), dtype=int)
    rank[np.argsort(labels, kind="stable")] = np.arange(len(labels))
    return np.asarray(rank % 2 == 1)


def mean_error(values: Array) -> float:
    """Standard error of the mean of (n,) numbers, one an image; NaN of a single one."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def cell(value: float | None, digits: int = 2) -> float | None:
    """A number for a table; an unknown one is left empty."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def percent(share: float | None) -> float | None:
    """A share as a per cent for a table."""
    return None if share is None else cell(100 * share)
