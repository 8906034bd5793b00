"""Who trains at the same time?  A cohort that asks more memory than there is trains in parts.

Runs do not see each other, so that parts end with the same bits as the whole. Only a run that does
not fit with its teacher alone is refused.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from kdprobe.errors import InputError
from kdprobe.train.memory import Need, need_together, room
from kdprobe.train.place import Place
from kdprobe.train.plan import Cohort, RunPlan

log = logging.getLogger("kdprobe")


def parted(place: Place, cohort: Cohort, needs: Mapping[str, Need]) -> tuple[Cohort, ...]:
    """The runs of a cohort in order, each time as many as the memory and the recipe allow.

    Raises:
        InputError: a run does not fit even alone with its teacher.
    """
    there, most = room(place), place.recipe.at_once or len(cohort.runs)
    parts: list[list[RunPlan]] = []
    for run in cohort.runs:
        _must_fit(place, run, needs[run.arm], there)
        full = not parts or len(parts[-1]) == most
        if full or need_together([*parts[-1], run], needs) > there:
            parts.append([])
        parts[-1].append(run)
    if len(parts) == 1:
        return (cohort,)
    if len(parts) > -(-len(cohort.runs) // most):
        _tell(place, cohort, parts, need_together(cohort.runs, needs), there)
    return tuple(
        replace(cohort, name=f"{cohort.name}, part {at} of {len(parts)}", runs=tuple(runs))
        for at, runs in enumerate(parts, 1)
    )


def _must_fit(place: Place, run: RunPlan, need: Need, there: int) -> None:
    """Raise InputError where a run needs more than `there` is."""
    if need.alone > there:
        how, beside = place.recipe.optimizer, " and its teacher" if run.teacher else ""
        raise InputError(
            f"found {_gib(there)} of memory free on {place.device}; wanted about "
            f"{_gib(need.alone)} for run {run.id!r}{beside}: lower optimizer.batch_size "
            f"({how.batch_size}), raise optimizer.accumulate ({how.accumulate}), or choose "
            "smaller networks"
        )


def _tell(
    place: Place, cohort: Cohort, parts: list[list[RunPlan]], wanted: int, there: int
) -> None:
    if place.processes.writes:
        log.warning(
            "found %s of memory free on %s, and %s with its %d runs wants about %s: it trains in "
            "%d parts, one after another: %s",
            _gib(there),
            place.device,
            cohort.name,
            len(cohort.runs),
            _gib(wanted),
            len(parts),
            "; ".join(", ".join(run.id for run in runs) for runs in parts),
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
