"""Who is compared with whom?  A student with the baseline, or a control, of its seed."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar


class Trained(Protocol):
    """What pairing has to know of a run."""

    @property
    def role(self) -> str: ...
    @property
    def arm(self) -> str: ...
    @property
    def seed(self) -> int | None: ...


T = TypeVar("T", bound=Trained)


def pairs_by_arm(
    runs: Iterable[T], others: Sequence[T] | None = None
) -> dict[str, list[tuple[T, T]]]:
    """(student, other) of equal seed, by student arm; arms without a pair are left out.

    `others` are the runs of one arm. By default they are the baselines; where there are several
    arms of baselines, the first one is the reference.
    """
    known = list(runs)
    if others is None:
        others = next(iter(arms_of(known, "baseline").values()), [])
    found = {arm: _of_equal_seed(ours, others) for arm, ours in arms_of(known, "student").items()}
    return {arm: pairs for arm, pairs in found.items() if pairs}


def arms_of(runs: Iterable[T], role: str) -> dict[str, list[T]]:
    """The runs of `role` by arm, in order."""
    arms: dict[str, list[T]] = {}
    for run in runs:
        if run.role == role:
            arms.setdefault(run.arm, []).append(run)
    return arms


def _of_equal_seed(ours: Sequence[T], others: Sequence[T]) -> list[tuple[T, T]]:
    """Runs without a seed are matched only where both sides have one run, so no choice."""
    partner = {run.seed: run for run in others}
    alone = len(ours) == len(others) == 1
    return [
        (run, partner[run.seed])
        for run in ours
        if run.seed in partner and (run.seed is not None or alone)
    ]
