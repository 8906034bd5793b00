"""Who is compared with whom?  Every student with the baseline of its seed."""

from collections.abc import Iterable
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


def pairs_by_arm(runs: Iterable[T]) -> dict[str, list[tuple[T, T]]]:
    """(student, baseline) of equal seed, by student arm.

    Where there are several arms of baselines, the first one is the reference. Runs without a seed
    cannot be matched, but for a single student and a single baseline that both have none.
    """
    known = list(runs)
    baselines = [run for run in known if run.role == "baseline"]
    reference = {run.seed: run for run in baselines if run.arm == baselines[0].arm}
    arms: dict[str, list[T]] = {}
    for run in known:
        if run.role == "student":
            arms.setdefault(run.arm, []).append(run)
    seedless = [run for run in baselines if run.seed is None]
    pairs: dict[str, list[tuple[T, T]]] = {}
    for arm, students in arms.items():
        alone = len(students) == len(seedless) == len(reference) == 1
        pairs[arm] = [
            (run, reference[run.seed])
            for run in students
            if run.seed in reference and (run.seed is not None or alone)
        ]
    return {arm: found for arm, found in pairs.items() if found}
