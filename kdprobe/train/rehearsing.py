"""Will it work?  Every arm looks at two images before hours are spent."""

import torch

from kdprobe.errors import InputError, UnknownName
from kdprobe.train.cohort import first_batch, learner_of
from kdprobe.train.learner import Learner
from kdprobe.train.memory import must_have_room
from kdprobe.train.place import Place
from kdprobe.train.plan import Cohort, RunPlan, cohorts
from kdprobe.train.sources import untrained_view


def rehearse(place: Place) -> None:
    """Let every arm look at two images before hours are spent.

    Raises:
        InputError: losses do not fit their networks (all are named), or memory or a step is small.
    """
    plans, faults = cohorts(place.recipe), []
    for plan in (p for p in plans if p.seed == plans[-1].seed or p.name == "teacher"):
        place.processes.must_share(len(place.share(plan)), place.recipe.optimizer.batch_size)
        learners = []
        for run in plan.runs:
            try:
                learners.append(_look_once(place, plan, run))
            except (InputError, UnknownName) as error:
                faults.append(f"  {'arms.' if run.arm != 'teacher' else ''}{run.arm}: {error}")
        if not faults:
            must_have_room(place, plan, learners)
    if faults:
        raise InputError("some losses do not fit their networks:\n" + "\n".join(faults))


def _look_once(place: Place, plan: Cohort, run: RunPlan) -> Learner:
    """A run as it will be at its start, after a first look; its teacher untrained."""
    batch = first_batch(place, plan)
    learner = learner_of(place, plan, run, rehearsed=True)
    teacher = untrained_view(place, run).look(place, batch) if run.needs_teacher else None
    learner.meet(batch, teacher)
    learner.crowd.eval()
    target = place.share(plan).labels[batch.rows]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for at, stage in enumerate(run.stages):
            learner.crowd(at, [1.0] * len(stage.terms), batch, teacher, target)
    return learner
