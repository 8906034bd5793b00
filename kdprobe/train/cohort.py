"""How does a cohort learn?  All its runs step on the same batch; each teacher looks at it once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kdprobe.errors import OutputError
from kdprobe.train import saving
from kdprobe.train.chance import draw_seed, seed_torch
from kdprobe.train.learner import Learner
from kdprobe.train.lines import Diverged
from kdprobe.train.losses.contract import Batch, Outputs
from kdprobe.train.noting import begin_notes, end_notes, note_epoch
from kdprobe.train.place import Place, Progress
from kdprobe.train.plan import Cohort, RunPlan
from kdprobe.train.rates import learning_rate
from kdprobe.train.settings import Source
from kdprobe.train.slopes import term_slopes
from kdprobe.train.sources import network_of, teachers
from kdprobe.train.state import load_state, save_state, state_file
from kdprobe.train.team import Team
from kdprobe.train.views import Seen, batches


def train_cohort(place: Place, cohort: Cohort) -> None:
    """Train the runs from where they are to their end, and mark them finished.

    Raises:
        InputError: a loss is not finite (the weights before are kept), or the saved state does
            not fit.
        OutputError: a file cannot be written.
    """
    team = gathered(place, cohort)
    for learner in team.learners:
        learner.over = load_state(state_file(place.folder, learner.run.id), learner)
    begin_notes(team)
    first = min(learner.over for learner in team.learners) + 1
    for epoch in range(first, cohort.epochs + 1):
        awake = [one for one in team.learners if one.over < epoch and not one.stopped]
        if awake:
            with _keeping(team):
                _pass(team, awake, epoch)
    end_notes(team)
    place.processes.wait()


@contextmanager
def _keeping(team: Team) -> Iterator[None]:
    """Where an epoch fails, keep the last good one, and say which it is."""
    try:
        yield
    except Diverged as error:
        _keep_last_good(team.place, error.learner)
        raise
    except OutputError as error:
        over = min(learner.over for learner in team.learners)
        since = f"after epoch {over}" if over >= 0 else "from the start"
        raise OutputError(f"{error} {since} of {team.plan.name}") from error


def _keep_last_good(place: Place, learner: Learner) -> None:
    """The weights of the last epoch that counts become a checkpoint, if they are none yet.

    In full precision: shortly before a loss is not finite, they may be too large for half of it.
    """
    epoch = load_state(state_file(place.folder, learner.run.id), learner)
    for member in learner.members if epoch >= 0 else ():
        folder = place.folder / member.id
        if not (folder / saving.checkpoint_file(epoch)).is_file():
            saving.save_checkpoint(folder, member, epoch, "float32")
            saving.save_adapters(folder, learner, epoch)


def _pass(team: Team, awake: Sequence[Learner], epoch: int) -> None:
    """Train an epoch, note it, and keep the states, which make it count."""
    place, began = team.place, time.perf_counter()
    if epoch > 0:
        train_epoch(team, awake, epoch)
    note_epoch(team, awake, epoch, began)
    for learner in awake:
        if place.processes.writes:
            save_state(state_file(place.folder, learner.run.id), epoch, learner)
        learner.over = epoch
    place.processes.wait()


def gathered(place: Place, cohort: Cohort) -> Team:
    """The learners of a cohort at their start, with their teachers.

    Raises:
        InputError: a loss does not fit its networks.
    """
    watched = teachers(place, cohort)
    learners = [learner_of(place, cohort, run) for run in cohort.runs]
    team = Team(place, cohort, learners, watched)
    batch = first_batch(place, cohort)
    for learner in learners:
        teacher = team.teacher(learner)
        seen = teacher.look(place, batch) if teacher and learner.run.needs_teacher else None
        learner.meet(batch, seen, place.processes.wrapped)
        learner.processes = place.processes.count
    return team


def learner_of(place: Place, cohort: Cohort, run: RunPlan, *, rehearsed: bool = False) -> Learner:
    """A run of a cohort at its start; rehearsed, without the weights that it will begin with."""
    entry, how = place.entry(run.model), place.recipe.optimizer
    start = None if rehearsed else run.start

    def begin(body: nn.Module) -> None:
        if start is not None:
            weights = network_of(place, start, cohort.seed)[0].body.state_dict()
            saving.must_fit(run.id, body, weights)
            body.load_state_dict(weights)

    return Learner(run, entry, cohort.seed, place.device, how, begin)


def first_batch(place: Place, cohort: Cohort) -> Batch:
    """Two training images, as they are."""
    share = place.share(cohort)
    seen = share.sample(torch.arange(min(2, len(share)), device=place.device))
    return Batch(seen.pixels, seen.places, len(share), draw_seed(cohort.seed, 0, "first look"))


def train_epoch(team: Team, awake: Sequence[Learner], epoch: int) -> None:
    """One pass over the training images."""
    place, plan = team.place, team.plan
    how, steps = place.recipe.optimizer, place.steps(plan)
    share = place.share(plan)
    for learner in awake:
        learner.begin_epoch(epoch, steps)
    asked = _asked(team, awake)
    looks = place.recipe.gradients
    with _chance(place.device):
        for step, (seen, whole) in enumerate(batches(share, place.order(plan), epoch)):
            seed = place.step_seed(plan, epoch, step)
            passed = epoch - 1 + step / steps
            parts = in_parts(seen, len(share), seed, passed, how.accumulate)
            theirs: dict[Source | None, Sequence[Outputs | None]] = {
                source: [team.teachers[source].look(place, batch) for batch, _ in parts]
                for source in asked
            }
            for learner in awake:
                source = learner.run.teacher
                shown = theirs[source] if source in theirs else [None] * len(parts)
                given = [(*part, t) for part, t in zip(parts, shown, strict=True)]
                if looks and step == 0 and epoch % looks == 0:
                    learner.slopes = term_slopes(learner, given[0], passed, plan.epochs)
                seed_torch(seed, place.device)
                learner.learn(
                    step,
                    given,
                    whole,
                    lr=learning_rate(
                        how, learner.run.stages[learner.stage].span, passed, 1 / steps
                    ),
                    passed=passed,
                    total=plan.epochs,
                )
            done = (epoch - 1) * steps + step + 1
            place.progress(
                Progress(f"{plan.name}, epoch {epoch} of {plan.epochs}", done, plan.epochs * steps)
            )
    for learner in awake:
        place.processes.take_first(learner.crowd.buffers())
        learner.end_epoch(epoch, plan.epochs)


def _asked(team: Team, awake: Sequence[Learner]) -> list[Source]:
    """The teachers that a loss looks at in this epoch."""
    found = [learner.run.teacher for learner in awake if learner.looks_at_teacher]
    return [source for source in dict.fromkeys(found) if source is not None]


def in_parts(
    seen: Seen, total: int, seed: int, passed: float, count: int
) -> list[tuple[Batch, Tensor]]:
    """A batch, cut into `count` parts whose gradients are added up."""
    pieces = zip(*(part.chunk(count) for part in seen), strict=True)
    return [
        (Batch(pixels, places, total, seed, passed), target) for pixels, target, places in pieces
    ]


@contextmanager
def _chance(device: torch.device) -> Iterator[None]:
    """Lend torch's own random state to networks that draw from it, such as dropout."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
