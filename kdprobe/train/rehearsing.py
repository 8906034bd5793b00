"""Will it work?  Every arm looks at two images before hours are spent."""

import torch

from kdprobe.errors import InputError, UnknownName
from kdprobe.train.cohort import first_batch, learner_of
from kdprobe.train.memory import Need, need_of
from kdprobe.train.place import Place
from kdprobe.train.plan import Cohort, RunPlan, cohorts
from kdprobe.train.sources import untrained_view


def rehearse(place: Place) -> dict[str, Need]:
    """Let every arm look at two images; what each arm needs of the memory.

    Raises:
        InputError: losses do not fit their networks (all are named), or a step is small.
    """
    plans, faults, needs = cohorts(place.recipe), [], {}
    runs = [
        (p, r) for p in plans if p.seed == plans[-1].seed or p.name == "teacher" for r in p.runs
    ]
    for plan, run in runs:
        place.processes.must_share(len(place.share(plan)), place.recipe.optimizer.batch_size)
        try:
            needs[run.arm] = _look_once(place, plan, run)
        except (InputError, UnknownName) as error:
            faults.append(f"  {'arms.' if run.arm != 'teacher' else ''}{run.arm}: {error}")
    if faults:
        raise InputError("some losses do not fit their networks:\n" + "\n".join(faults))
    return needs


def _look_once(place: Place, plan: Cohort, run: RunPlan) -> Need:
    """Let a run at its start look once, its teacher untrained."""
    batch = first_batch(place, plan)
    learner = learner_of(place, plan, run, rehearsed=True)
    view = untrained_view(place, run) if run.teacher is not None else None
    teacher = view.look(place, batch) if view and run.needs_teacher else None
    learner.meet(batch, teacher)
    learner.crowd.eval()
    target = place.share(plan).labels[batch.rows]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for at, stage in enumerate(run.stages):
            learner.crowd(at, [1.0] * len(stage.terms), batch, teacher, target)
        return need_of(place, learner, batch, view, teacher)
