"""Is the study sound?  Every checkpoint is read once, before anything is computed."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from kdprobe.errors import InputError
from kdprobe.formats.contract import read_weights
from kdprobe.loading import BrokenWeights, load_network
from kdprobe.manifest import NetworkEntry
from kdprobe.results import Problem
from kdprobe.study import Run, Study

REMEDY = "analyse it on the data that it was trained for, or correct its entry in the manifest"


def check(study: Study, allowed: Collection[str]) -> tuple[Study, tuple[Problem, ...]]:
    """Read every checkpoint once; leave out those with NaN weights, and name them.

    Raises:
        InputError: a file is broken or does not fit its network, or no checkpoint is sound.
    """
    problems: list[Problem] = []
    runs = []
    unfinished = [run for run in study.runs if run.entry.status == "running"]
    finished = tuple(run for run in study.runs if run not in unfinished)
    whole = bool(finished) and any(run.role != "teacher" for run in finished)
    for run in unfinished if whole else []:
        what = "its training is not finished; it is left out: finish it by the same 'kdprobe train'"
        problems.append(Problem(subject=run.id, what=what, left_out=True))
    for run in finished if whole else study.runs:
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


def of_these_classes(study: Study, classes: Sequence[str]) -> tuple[Study, tuple[Problem, ...]]:
    """Leave out runs that answer with other classes than the data's `classes`, and name them.

    Raises:
        InputError: all of them do.
    """
    faults = {run.id: _unlike(run.last.network, classes) for run in study.runs}
    problems = tuple(
        Problem(subject=run, what=f"{what}; it is left out: {REMEDY}", left_out=True)
        for run, what in faults.items()
        if what
    )
    kept = tuple(run for run in study.runs if not faults[run.id])
    if not kept:
        raise InputError(f"run {study.runs[0].id!r} {faults[study.runs[0].id]}; {REMEDY}")
    return replace(study, runs=kept), problems


def _unlike(network: NetworkEntry, classes: Sequence[str]) -> str:
    """How the classes of `network` differ from the data's; empty where they do not."""
    if network.num_classes != len(classes):
        return f"has {network.num_classes} classes, the data set has {len(classes)}"
    strange = sorted(set(network.classes) - set(classes))
    return f"names a class {strange[0]!r} that the data set does not have" if strange else ""


def remarks(study: Study) -> list[Problem]:
    """What does not stop an analysis, but has to be known when it is read."""
    found = [
        Problem(subject=run.id, what="its training is not finished; it is analysed as it is")
        for run in study.runs
        if run.entry.status == "running"
    ]
    found += [Problem(subject=study.name, what=what) for what in _unequal(study)]
    for student, other in (*study.pairs(), *study.control_pairs()):
        pair = f"{student.id} and {other.id}"
        if student.entry.network != other.entry.network:
            found.append(Problem(subject=pair, what="are compared, but are different networks"))
        elif study.final(student).digest == study.final(other).digest != "":
            what = "are compared, but hold the same weights: one file copied twice?"
            found.append(Problem(subject=pair, what=what))
        elif _begin_apart(student, other):
            what = "are compared, but began with other weights: their checkpoints of epoch 0 differ"
            found.append(Problem(subject=pair, what=what))
    return found


def _begin_apart(one: Run, two: Run) -> bool:
    """Whether both kept their weights before training, and these differ."""
    firsts = [run.checkpoints[0] for run in (one, two) if len(run.checkpoints) > 1]
    if len(firsts) < 2 or any(first.epoch != 0 for first in firsts):
        return False
    if firsts[0].digest == firsts[1].digest:
        return False
    ours, theirs = (read_weights(first.path).tensors for first in firsts)
    return any(not torch.equal(value, theirs[name]) for name, value in ours.items())


def _unequal(study: Study) -> list[str]:
    """What differs between learners that should be trained alike."""
    learners = study.learners
    told = []
    if len({run.epochs for run in learners}) > 1:
        told.append("runs have checkpoints of different epochs; trajectories use the common ones")
    if len({run.last.epoch for run in learners}) > 1:
        epochs = study.common_epochs()
        trained = bool(epochs) and epochs[-1] > 0
        where = f"at epoch {epochs[-1]}, the last they share" if trained else "each at its last"
        told.append(f"runs end at different epochs; they are compared {where}")
    if len({run.entry.schedule for run in learners}) > 1:
        told.append("learning-rate schedules differ; weight distances then compare schedules")
    if len({run.arm for run in study.baselines}) > 1:
        told.append(f"students are compared with baseline arm {study.baselines[0].arm!r} alone")
    return told


def _without_folder(text: str, study: Study) -> str:
    return text.replace(f"{study.folder}/", "")
