"""How does a cohort learn?  All its runs step on the same batch; the teacher looks at it once."""

import time
from collections.abc import Sequence

import torch

from kdprobe.taps import Tap
from kdprobe.train import records
from kdprobe.train.learner import Learner, look, taps_of
from kdprobe.train.lines import metrics_line, run_record
from kdprobe.train.place import Place, Progress, TeacherView
from kdprobe.train.plan import Cohort, RunPlan, learning_rate
from kdprobe.train.state import load_state, save_state
from kdprobe.train.views import batches


def train_cohort(place: Place, cohort: Cohort, teacher: TeacherView | None) -> None:
    """Train the runs from where they are to their end, and mark them finished.

    Raises:
        InputError: a loss is not finite, or the saved state does not fit.
        OutputError: a file cannot be written.
    """
    learners = [_learner(place, cohort, run) for run in cohort.runs]
    state = place.folder / "state" / f"{cohort.name}.safetensors"
    over = load_state(state, learners)
    now = place.facts["environment"]
    resumed = {"after_epoch": over, **now} if over >= 0 else None
    if resumed:
        records.warn_of_change(place.folder / cohort.runs[0].id, now)
    for learner in learners:
        folder, record = place.folder / learner.run.id, run_record(place, cohort, learner, teacher)
        records.write_run(folder, record, resumed=resumed)
        records.cut_metrics(folder, over)
    for epoch in range(over + 1, cohort.epochs + 1):
        began = time.perf_counter()
        if epoch > 0:
            _epoch(place, cohort, learners, teacher, epoch)
        _keep(place, cohort, learners, teacher, epoch, began)
        save_state(state, epoch, learners)
    for learner in learners:
        records.mark_finished(place.folder / learner.run.id)


def _keep(
    place: Place,
    cohort: Cohort,
    learners: Sequence[Learner],
    teacher: TeacherView | None,
    epoch: int,
    began: float,
) -> None:
    """Write what an epoch leaves behind; the state, written after it, makes it count."""
    lines = [metrics_line(place, cohort, learner, teacher, epoch) for learner in learners]
    seconds = round(time.perf_counter() - began, 3)  # of the whole cohort
    for learner, line in zip(learners, lines, strict=True):
        folder = place.folder / learner.run.id
        records.add_metrics(folder, {**line, "seconds": seconds})
        if epoch in cohort.checkpoints:
            records.save_checkpoint(folder, learner, epoch, place.recipe.precision)
    if epoch == 0:
        records.write_index(place.folder, place.recipe)


def _learner(place: Place, cohort: Cohort, run: RunPlan) -> Learner:
    entry = place.entry(run.model)
    return Learner(run, entry, cohort.seed, place.device, place.recipe.optimizer)


def _epoch(
    place: Place,
    cohort: Cohort,
    learners: Sequence[Learner],
    teacher: TeacherView | None,
    epoch: int,
) -> None:
    """One pass over the training images."""
    how, steps = place.recipe.optimizer, place.steps
    taps = _teacher_taps(teacher, learners)
    for learner in learners:
        learner.network.train()
        learner.tally.zero_()
    views = batches(
        place.train,
        seed=cohort.seed,
        epoch=epoch,
        size=how.batch_size,
        shift=place.recipe.data.shift,
    )
    what = f"{cohort.name}, epoch {epoch} of {cohort.epochs}"
    for step, batch in enumerate(views):
        lr = learning_rate(how, cohort, epoch - 1 + step / steps)
        with torch.no_grad():
            theirs = look(teacher.network, taps, batch.pixels) if teacher else None
        for learner in learners:
            learner.step(batch, theirs, lr)
        done = (epoch - 1) * steps + step + 1
        place.progress(Progress(what, done, cohort.epochs * steps))


def _teacher_taps(teacher: TeacherView | None, learners: Sequence[Learner]) -> dict[str, Tap]:
    if teacher is None:
        return {}
    found = [taps_of(teacher.network, learner.run) for learner in learners]
    return {name: tap for taps in found for name, tap in taps.items()}
