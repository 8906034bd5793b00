"""Is the study sound?  Every checkpoint is read once, before anything is computed."""

from collections.abc import Collection
from dataclasses import replace

from kdprobe.errors import InputError
from kdprobe.loading import BrokenWeights, load_network
from kdprobe.results import Problem
from kdprobe.study import Study


def check(study: Study, allowed: Collection[str]) -> tuple[Study, tuple[Problem, ...]]:
    """Read every checkpoint once; leave out those with NaN weights, and name them.

    Raises:
        InputError: a file is broken or does not fit its network, or no checkpoint is sound.
    """
    problems: list[Problem] = []
    runs = []
    for run in study.runs:
        sound = []
        for checkpoint in run.checkpoints:
            try:
                load_network(checkpoint, "cpu", allowed)
                sound.append(checkpoint.sealed())
            except BrokenWeights as error:
                subject = f"{run.id}, epoch {checkpoint.epoch}"
                what = f"weights that are not numbers: {error}; this checkpoint is left out"
                what = _without_folder(what, study)
                problems.append(Problem(subject=subject, what=what, left_out=True))
        if sound:
            runs.append(replace(run, checkpoints=tuple(sound)))
    if not runs:
        raise InputError(f"no checkpoint of study {study.name!r} holds finite weights; train again")
    found = replace(study, runs=tuple(runs))
    return found, (*problems, *remarks(found))


def remarks(study: Study) -> list[Problem]:
    """What does not stop an analysis, but has to be known when it is read."""
    learners = study.baselines + study.students
    found = [
        Problem(subject=run.id, what="its training is not finished; it is analysed as it is")
        for run in study.runs
        if run.entry.status == "running"
    ]
    if len({run.epochs for run in learners}) > 1:
        what = "runs have checkpoints of different epochs; trajectories use the common ones"
        found.append(Problem(subject=study.name, what=what))
    if len({run.entry.schedule for run in learners}) > 1:
        what = "runs have different learning-rate schedules; weight distances compare schedules"
        found.append(Problem(subject=study.name, what=what))
    return found


def _without_folder(text: str, study: Study) -> str:
    return text.replace(f"{study.folder}/", "")
