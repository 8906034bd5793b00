"""What will a recipe cost?  Runs, steps, time, memory and disk, before anything starts.

Time is measured: two steps of every run on this machine, after one to warm up, in each of its
stages and as often as terms of the loss come or go; teachers included, and steps in parts. What
lies between the epochs is not in it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.device import repeatable
from kdprobe.train.cohort import first_batch, in_parts, learner_of
from kdprobe.train.learner import Learner
from kdprobe.train.losses.contract import LOSSES
from kdprobe.train.memory import Need, need_of
from kdprobe.train.objective import weights_of
from kdprobe.train.parting import parted
from kdprobe.train.place import Place
from kdprobe.train.placing import placed
from kdprobe.train.plan import Cohort, RunPlan, cohorts
from kdprobe.train.settings import Recipe
from kdprobe.train.sources import Looking, untrained_view

TIMED = 2  # steps
LOGIT, ROW = 2, 16  # bytes of a saved logit, and of an image's label and row beside them

Work = tuple[int, tuple[bool, ...]]  # place of the stage, and which of its terms weigh anything


@dataclass(frozen=True)
class RunCost:
    """What one run of a recipe will take."""

    run: str
    network: str
    parameters: int
    epochs: int
    steps: int
    seconds: float  # about
    bytes: int  # on disk at its end: checkpoints, what its losses own, predictions
    memory: int  # bytes of the device while it trains alone with its teacher, about


@dataclass(frozen=True)
class Pace:
    """What was measured of the runs of an arm."""

    steps: Mapping[Work, float]  # seconds of a step, without the teacher's look
    look: float  # seconds of the teacher's look at a batch; 0 where nobody looks
    parameters: int
    bytes: int  # of a checkpoint
    adapters: int  # bytes of what its losses own
    need: Need


def estimated(recipe: Recipe, device: torch.device) -> list[RunCost]:
    """Every run of a recipe. Runs that differ by seed only are measured once.

    A teacher looks once at each batch for all runs that train together: its time is shared.

    Raises:
        InputError: the data cannot be read, a loss does not fit its networks, or a run does not
            fit into memory.
        UnknownName: a loss reads a layer that is none.
    """
    place = placed(recipe, Path(), device, lambda event: None)
    paces: dict[str, Pace] = {}
    found = []
    with repeatable():
        for plan in cohorts(recipe):
            for run in plan.runs:
                if run.arm not in paces:
                    paces[run.arm] = _measured(place, plan, run)
            needs = {arm: pace.need for arm, pace in paces.items()}
            for part in parted(place, plan, needs):
                found += [_cost(place, part, run, paces[run.arm]) for run in part.runs]
    return found


def _cost(place: Place, plan: Cohort, run: RunPlan, pace: Pace) -> RunCost:
    steps = place.steps(plan)
    return RunCost(
        run=run.id,
        network=place.entry(run.model).label,
        parameters=pace.parameters,
        epochs=plan.epochs,
        steps=plan.epochs * steps,
        seconds=steps * sum(_step(plan, run, pace, at + 1) for at in range(plan.epochs)),
        bytes=_kept(place, plan, run, pace),
        memory=pace.need.alone,
    )


def _step(plan: Cohort, run: RunPlan, pace: Pace, epoch: int) -> float:
    """Seconds of a step of `epoch`, with the run's share of its teacher's look."""
    beside = [one for one in plan.runs if one.teacher == run.teacher and _looks(one, epoch)]
    look = pace.look / len(beside) if _looks(run, epoch) else 0.0
    return pace.steps[_work(run, epoch, plan.epochs)] + look


def _looks(run: RunPlan, epoch: int) -> bool:
    terms = run.stages[run.stage(epoch)].terms
    return any(LOSSES[term.name].needs_teacher for term in terms)


def _work(run: RunPlan, epoch: int, total: int) -> Work:
    at = run.stage(epoch)
    return at, tuple(map(bool, weights_of(run.stages[at], epoch - 0.5, total)))


def _kept(place: Place, plan: Cohort, run: RunPlan, pace: Pace) -> int:
    """Bytes of all files of tensors that a run leaves behind."""
    held = 0 if place.validation is None else len(place.validation)
    best = run.together if held else 0
    weights = pace.bytes * (len(plan.checkpoints) * run.together + best)
    adapters = pace.adapters * (len(plan.checkpoints) + best)
    answers = held * (LOGIT * place.classes + ROW) * (plan.epochs + 1) * run.together
    return weights + adapters + (answers if place.recipe.predictions else 0)


def _measured(place: Place, plan: Cohort, run: RunPlan) -> Pace:
    learner = learner_of(place, plan, run, rehearsed=True)
    view = untrained_view(place, run) if run.teacher is not None else None
    first, asked = first_batch(place, plan), view if run.needs_teacher else None
    shown = asked.look(place, first) if asked else None
    learner.meet(first, shown)
    need = need_of(place, learner, first, view, shown)
    works: dict[Work, int] = {}
    for epoch in range(1, plan.epochs + 1):
        works.setdefault(_work(run, epoch, plan.epochs), epoch)
    with torch.random.fork_rng(devices=[]):
        timed = {work: _timed(place, plan, learner, asked, epoch) for work, epoch in works.items()}
    half = 2 if place.recipe.precision == "float16" else 1
    return Pace(
        steps={work: step for work, (step, _) in timed.items()},
        look=min(look for _, look in timed.values()),
        parameters=sum(weight.numel() for weight in learner.members[0].network.parameters()),
        bytes=_size(learner.members[0].plain_state()) // half,
        adapters=_size(learner.crowd.objective.state_dict()),
        need=need,
    )


def _timed(
    place: Place, plan: Cohort, learner: Learner, asked: Looking | None, epoch: int
) -> tuple[float, float]:
    """Seconds of a step amid `epoch`, and of the teacher's look at its batch, part by part."""
    share, how, passed = place.share(plan), place.recipe.optimizer, epoch - 0.5
    rows = torch.arange(min(how.batch_size, len(share)), device=place.device)
    parts = in_parts(share.sample(rows), len(share), 0, passed, how.accumulate)

    def look() -> list[Any]:
        return [asked.look(place, batch) if asked else None for batch, _ in parts]

    given = [(*part, theirs) for part, theirs in zip(parts, look(), strict=True)]
    learner.begin_epoch(epoch, TIMED + 1)

    def step(number: int) -> None:
        learner.learn(number, given, len(rows), lr=1e-8, passed=passed, total=plan.epochs)

    steps = [_seconds(place, partial(step, number)) for number in range(TIMED + 1)]
    looks = [_seconds(place, look) for _ in range(TIMED)] if asked else [0.0]
    return min(steps[1:]), min(looks)


def _size(state: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in state.values())


def _seconds(place: Place, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)
    return time.perf_counter() - began
