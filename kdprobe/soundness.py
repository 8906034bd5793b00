"""Is the study sound?  Every checkpoint is read once, before anything is computed."""

from collections.abc import Collection
from dataclasses import replace

from kdprobe.errors import InputError
from kdprobe.loading import BrokenWeights, load_network
from kdprobe.results import Problem
from kdprobe.study import Run, Study


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
    found = [
        Problem(subject=run.id, what="its training is not finished; it is analysed as it is")
        for run in study.runs
        if run.entry.status == "running"
    ]
    found += [Problem(subject=study.name, what=what) for what in _unequal(study)]
    for student, baseline in study.pairs():
        pair = f"{student.id} and {baseline.id}"
        if student.entry.network != baseline.entry.network:
            found.append(Problem(subject=pair, what="are compared, but are different networks"))
        elif _starts(student) and _starts(baseline) and _starts(student) != _starts(baseline):
            what = "are compared, but their checkpoints of epoch 0 differ: other initial weights"
            found.append(Problem(subject=pair, what=what))
    return found


def _starts(run: Run) -> str:
    """The digest of the checkpoint before training; empty where there is none."""
    first = run.checkpoints[0]
    return first.digest if first.epoch == 0 else ""


def _unequal(study: Study) -> list[str]:
    """What differs between baselines and students that should be trained alike."""
    learners = study.baselines + study.students
    told = []
    if len({run.epochs for run in learners}) > 1:
        told.append("runs have checkpoints of different epochs; trajectories use the common ones")
    if len({run.last.epoch for run in learners}) > 1:
        epochs = study.common_epochs()
        where = f"at epoch {epochs[-1]}, the last they share" if epochs else "each at its last"
        told.append(f"runs end at different epochs; they are compared {where}")
    if len({run.entry.schedule for run in learners}) > 1:
        told.append("learning-rate schedules differ; weight distances then compare schedules")
    if len({run.arm for run in study.baselines}) > 1:
        told.append(f"students are compared with baseline arm {study.baselines[0].arm!r} alone")
    return told


def _without_folder(text: str, study: Study) -> str:
    return text.replace(f"{study.folder}/", "")
