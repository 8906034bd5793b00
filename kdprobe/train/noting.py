"""What does an epoch leave behind?  A line of numbers, and where it is kept the weights.

The first process writes; the others hear what it noted, so that all choose alike.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdprobe.train import records, saving
from kdprobe.train.boards import Board
from kdprobe.train.choosing import best_epoch, chosen, has_stopped
from kdprobe.train.environment import now
from kdprobe.train.learner import Learner, Member
from kdprobe.train.lines import (
    cost_line,
    metrics_line,
    not_tested,
    refuse_divergence,
    run_record,
    test_line,
)
from kdprobe.train.team import Team


def begin_notes(team: Team) -> None:
    """Records of the runs as they (again) begin; the lines of what is over are read back."""
    place = team.place
    if place.processes.writes:
        _warn_of_change(team)
        for learner, member in team.members():
            _begin_record(team, learner, member)
    place.processes.wait()
    for _, member in team.members():
        folder = place.folder / member.id
        team.lines[member.id] = records.metrics_of(folder)
        if place.boards and place.processes.writes:
            team.boards[member.id] = Board(folder, team.lines[member.id])
    for learner in team.learners:
        learner.stopped = _ends(team, learner, ())


def _warn_of_change(team: Team) -> None:
    """Once for all runs of the cohort."""
    again = [learner for learner in team.learners if learner.over >= 0]
    for learner in again[:1]:
        here = team.place.facts["environment"]
        records.warn_of_change(team.place.folder / learner.run.id, here)


def _begin_record(team: Team, learner: Learner, member: Member) -> None:
    place, over = team.place, learner.over
    folder, here = place.folder / member.id, place.facts["environment"]
    record = run_record(place, team.plan, learner, member, team.teacher(learner))
    resumed = {"after_epoch": over, **here} if over >= 0 else None
    records.write_run(folder, {**record, "started": now()}, resumed=resumed)
    records.cut_metrics(folder, over)


def _ends(team: Team, learner: Learner, more: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a learner's first network, its line of now included, became no better for long."""
    lines = [*team.lines[learner.members[0].id], *more]
    return has_stopped(lines, team.place.recipe.optimizer.patience)


def note_epoch(team: Team, awake: Sequence[Learner], epoch: int, began: float) -> None:
    """Write what an epoch leaves behind; the state, written after it, makes it count."""
    place = team.place
    notes = [_of_all_processes(team, learner) for learner in awake]
    found = place.processes.told(lambda: _lines(team, awake, epoch, notes, began))
    for name, line in found.items():
        team.lines[name].append(line)
    for learner in awake:
        learner.stopped = _ends(team, learner, ())
    if not place.processes.writes:
        return
    for learner in awake:
        last = learner.stopped or epoch == team.plan.epochs
        for member in learner.members:
            _save(team, learner, member, epoch, last)
    if epoch == 0:
        records.write_index(place.folder, place.recipe)


def _of_all_processes(team: Team, learner: Learner) -> Tensor:
    """(steps, m, 2 t + 3): sums over all images; the gradient is the same in every process."""
    sums = team.place.processes.summed(learner.notes[..., :-1].contiguous())
    return torch.cat([sums, learner.notes[..., -1:]], -1)


def _lines(
    team: Team, awake: Sequence[Learner], epoch: int, notes: Sequence[Tensor], began: float
) -> dict[str, dict[str, Any]]:
    """The line of every network that learnt in this epoch."""
    place, found = team.place, {}
    for learner, seen in zip(awake, notes, strict=True):
        teacher = team.teacher(learner)
        lines = [
            metrics_line(place, team.plan, learner, at, teacher, epoch, seen[:, at])
            for at in range(len(learner.members))
        ]
        saved = epoch in team.plan.checkpoints or _ends(team, learner, lines[:1])
        for member, line in zip(learner.members, lines, strict=True):
            tested = test_line(place, member, teacher) if saved else not_tested(place)
            length = _mean_step(team, member, line)
            found[member.id] = line | length | tested | learner.slopes
            refuse_divergence(learner, epoch, found[member.id])
    seconds = round(time.perf_counter() - began, 3)  # of the whole cohort
    images = len(place.share(team.plan)) * len(found)
    pace = {"seconds": seconds, "images_per_second": images / max(seconds, 1e-3) if epoch else None}
    return {name: {**line, **pace} for name, line in found.items()}


def _mean_step(team: Team, member: Member, line: Mapping[str, Any]) -> dict[str, float | None]:
    """How long a step of this epoch was, on average: of the path, what is new."""
    before = team.lines[member.id]
    if not before:
        return {"update_norm": None}
    walked = line["path_length"] - before[-1]["path_length"]
    return {"update_norm": walked / team.place.steps(team.plan)}


def _save(team: Team, learner: Learner, member: Member, epoch: int, last: bool) -> None:
    place, folder = team.place, team.place.folder / member.id
    precision, lines = place.recipe.precision, team.lines[member.id]
    records.add_metrics(folder, lines[-1])
    if member.id in team.boards:
        team.boards[member.id].add(lines[-1])
    if last or epoch in team.plan.checkpoints:
        saving.save_checkpoint(folder, member, epoch, precision)
        saving.save_adapters(folder, learner, epoch)
    if place.recipe.predictions:
        saving.save_predictions(folder, place, member, epoch)
    if best_epoch(lines) == epoch:
        saving.save_best(folder, learner, member, epoch, precision)


def end_notes(team: Team) -> None:
    """Mark the runs finished, with last and best numbers side by side, and what was chosen."""
    place = team.place
    for board in team.boards.values():
        board.close()
    if not place.processes.writes:
        return
    for learner in team.learners:
        best = chosen([team.lines[member.id] for member in learner.members])
        for at, member in enumerate(learner.members):
            told = {
                "reported": records.reported_numbers(place, member, team.lines[member.id]),
                "chosen": at == best,
                "cost": cost_line(place, member),  # again: a technique may have cut or rounded
            }
            records.mark_finished(place.folder / member.id, told)
    records.write_index(place.folder, place.recipe)
