"""What will a recipe cost?  Runs, steps, time and disk, before anything starts.

Time is measured: two steps of every run on this machine, after one to warm up, teachers included;
what lies between the epochs is not in it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from kdprobe.device import repeatable
from kdprobe.train.cohort import learner_of
from kdprobe.train.losses.contract import Batch
from kdprobe.train.place import Place
from kdprobe.train.placing import placed
from kdprobe.train.plan import Cohort, RunPlan, cohorts
from kdprobe.train.settings import Recipe
from kdprobe.train.sources import untrained_view

TIMED = 2  # steps


@dataclass(frozen=True)
class RunCost:
    """What one run of a recipe will take."""

    run: str
    network: str
    parameters: int
    epochs: int
    steps: int
    seconds: float  # about
    bytes: int  # of its checkpoints on disk


@dataclass(frozen=True)
class Pace:
    """What was measured of the runs of an arm."""

    step: float  # seconds, without the teacher's look
    look: float  # seconds of the teacher's look at a batch; 0 where nobody looks
    parameters: int
    bytes: int  # of a checkpoint


def estimated(recipe: Recipe, device: torch.device) -> list[RunCost]:
    """Every run of a recipe. Runs that differ by seed only are measured once.

    A teacher looks once at each batch for all runs of a cohort: its time is shared among them.

    Raises:
        InputError: the data cannot be read, or a loss does not fit its networks.
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
            found += [_cost(place, plan, run, paces) for run in plan.runs]
    return found


def _cost(place: Place, plan: Cohort, run: RunPlan, paces: Mapping[str, Pace]) -> RunCost:
    pace, steps = paces[run.arm], plan.epochs * place.steps(plan)
    beside = [one for one in plan.runs if one.needs_teacher and one.teacher == run.teacher]
    return RunCost(
        run=run.id,
        network=place.entry(run.model).label,
        parameters=pace.parameters,
        epochs=plan.epochs,
        steps=steps,
        seconds=steps * (pace.step + pace.look / max(len(beside), 1)),
        bytes=pace.bytes * (len(plan.checkpoints) + 1) * run.together,
    )


def _measured(place: Place, plan: Cohort, run: RunPlan) -> Pace:
    learner = learner_of(place, plan, run, rehearsed=True)
    share = place.share(plan)
    rows = torch.arange(min(place.recipe.optimizer.batch_size, len(share)), device=place.device)
    seen = share.sample(rows)
    batch = Batch(seen.pixels, seen.places, len(share))
    view = untrained_view(place, run) if run.needs_teacher else None
    theirs = view.look(place, batch) if view else None
    learner.meet(batch, theirs)
    learner.begin_epoch(1, TIMED + 1)
    parts, total = [(batch, seen.target, theirs)], plan.epochs

    def step(number: int) -> None:
        learner.learn(number, parts, len(rows), lr=1e-8, passed=0.0, total=total)

    with torch.random.fork_rng(devices=[]):
        steps = [_seconds(place, partial(step, number)) for number in range(TIMED + 1)]
        looks = [_seconds(place, partial(view.look, place, batch)) for _ in steps] if view else [0]
    state = learner.members[0].plain_state()
    half = 2 if place.recipe.precision == "float16" else 1
    return Pace(
        step=min(steps[1:]),
        look=min(looks),
        parameters=sum(weight.numel() for weight in learner.members[0].network.parameters()),
        bytes=sum(value.numel() * value.element_size() for value in state.values()) // half,
    )


def _seconds(place: Place, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)
    return time.perf_counter() - began
