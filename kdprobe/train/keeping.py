"""Which epochs are kept?  All, those that a recipe names, or a schedule that is dense early.

``auto``: before training and the first ten epochs, then every twentieth of the training, the epoch
before and after each drop of the learning rate and each begin of a schedule, and the last three.
"""

from collections.abc import Iterable

from kdprobe.train.settings import Optimizer

EARLY, PARTS, LATE = 10, 20, 3


def kept_epochs(
    asked: tuple[int, ...] | str | None,
    epochs: int,
    how: Optimizer,
    begins: Iterable[int] = (0,),
) -> tuple[int, ...]:
    """Rising epochs from 0 to the last. A list is taken as it is (`faults.py` has checked it).

    `begins` are the epochs that are over when a schedule begins: milestones count from there.
    """
    if isinstance(asked, tuple):
        return asked
    if asked != "auto":
        return tuple(range(epochs + 1))
    every = max(1, epochs // PARTS)
    drops = (0, *(how.milestones if how.schedule == "steps" else ()))
    around = {begin + drop + shift for begin in begins for drop in drops for shift in (-1, 0, 1)}
    late = range(epochs - LATE + 1, epochs + 1)
    found = {*range(EARLY + 1), *range(0, epochs, every), *around, *late}
    return tuple(sorted(epoch for epoch in found if 0 <= epoch <= epochs))
