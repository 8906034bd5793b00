"""From a recipe to a study of checkpoints: first the teacher, then one cohort of arms a seed.

Killed at any moment and started again, it goes on, and ends with the same bits on the same machine
and number of threads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from kdprobe.datasets.contract import Images
from kdprobe.device import choose_device, repeatable
from kdprobe.errors import InputError, UnknownName
from kdprobe.loading import load_images, load_network
from kdprobe.models.contract import Network
from kdprobe.study import Checkpoint
from kdprobe.train import records
from kdprobe.train.chance import drawn_from
from kdprobe.train.cohort import train_cohort
from kdprobe.train.learner import Learner, laid_out, look, taps_of
from kdprobe.train.place import Place, Progress, TeacherView, teacher_view
from kdprobe.train.plan import Cohort, RunPlan, cohorts, data_entry
from kdprobe.train.recipe import Recipe, load_recipe, settle
from kdprobe.train.views import Split, on_device


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train the study of `recipe`, or go on with it where it was interrupted.

    Args:
        recipe: a packaged recipe's name, a TOML file, or a Recipe.
        out: the study's folder; default ``checkpoints/<the recipe's name>``.
        overrides: ``key.path=value`` each, on top of the recipe.
        device: see `choose_device`.
        progress: called after every optimiser step of a cohort.

    Returns:
        The study's folder, which `load_study` reads.

    Raises:
        RecipeError: the recipe has faults; all of them are named.
        InputError: the folder holds another study, a loss does not fit its networks, or training
            diverged.
        OutputError: a file cannot be written.
    """
    settled = _settled(recipe, overrides)
    where = choose_device(device)
    folder = Path(out) if out is not None else Path("checkpoints") / settled.name
    records.claim(folder, settled)
    waiting = [plan for plan in cohorts(settled) if not records.finished(folder, plan)]
    if waiting:
        place = _place(settled, folder, where, progress or _silent)
        with repeatable():
            _rehearse(place)
            for plan in waiting:
                is_teacher = plan.name == "teacher" or settled.teacher is None
                train_cohort(place, plan, None if is_teacher else _teacher(place))
    records.forget_state(folder)
    return folder


def _settled(recipe: str | Path | Recipe, overrides: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return settle(recipe.model_dump(mode="json"), overrides, title=f"recipe {recipe.name}")
    return load_recipe(recipe, overrides)


def _silent(event: Progress) -> None:
    pass


def _place(
    recipe: Recipe, folder: Path, device: torch.device, progress: Callable[[Progress], None]
) -> Place:
    train_set, test_set = (load_images(data_entry(recipe), split) for split in ("train", "test"))
    if train_set.classes != test_set.classes:
        raise InputError(
            f"data set {recipe.data.name!r} has {len(train_set.classes)} classes in training and "
            f"{len(test_set.classes)} in test; wanted the same ones: correct the data set"
        )
    mean, std = _colours(recipe, train_set)
    data = {split: _noted(part) for split, part in (("train", train_set), ("test", test_set))}
    return Place(
        recipe=recipe,
        folder=folder,
        device=device,
        train=on_device(train_set, device),
        test=on_device(test_set, device),
        classes=len(train_set.classes),
        mean=mean,
        std=std,
        facts={"data": data, "environment": records.environment(device)},
        progress=progress,
    )


def _noted(images: Images) -> dict[str, Any]:
    return {"images": len(images), "sha256": images.digest()}


def _colours(recipe: Recipe, images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: the recipe's, or measured to four digits."""
    measured = images.pixels.double()
    mean = recipe.data.mean or measured.mean((0, 2, 3)).tolist()
    std = recipe.data.std or measured.std((0, 2, 3), correction=0).clamp_min(1e-4).tolist()
    return tuple(round(value, 4) for value in mean), tuple(round(value, 4) for value in std)


def _rehearse(place: Place) -> None:
    """Let every arm look at two images before hours are spent. Raises InputError, all named."""
    plans, faults = cohorts(place.recipe), []
    batch = Split(place.train.pixels[:2], place.train.labels[:2])
    teacher = _fresh(place, plans[0], plans[0].runs[0]).network if place.recipe.teacher else None
    for run in plans[-1].runs:
        try:
            _look_once(_fresh(place, plans[-1], run), teacher, batch)
        except (InputError, UnknownName) as error:
            faults.append(f"  arms.{run.arm}: {error}")
    if faults:
        raise InputError("some losses do not fit their networks:\n" + "\n".join(faults))


@torch.no_grad()
def _look_once(learner: Learner, teacher: Network | None, batch: Split) -> None:
    ours = look(learner.network.eval(), learner.taps, batch.pixels)
    theirs = ours
    if teacher is not None:
        theirs = look(teacher.eval(), taps_of(teacher, learner.run), batch.pixels)
    learner.objective(ours, theirs, batch.labels)


def _fresh(place: Place, plan: Cohort, run: RunPlan) -> Learner:
    entry = place.entry(run.model)
    return Learner(run, entry, plan.seed, place.device, place.recipe.optimizer)


def _teacher(place: Place) -> TeacherView:
    """The teacher out of its last saved file, as any reader of the study would see it."""
    plan = cohorts(place.recipe)[0]
    file = place.folder / "teacher" / records.checkpoint_file(plan.checkpoints[-1])
    entry = place.entry(plan.runs[0].model)
    with drawn_from(plan.seed, "weights"):  # drawn and overwritten; the caller's state is kept
        network = load_network(Checkpoint("teacher", plan.epochs, file, entry), place.device)
    return teacher_view(place, laid_out(network), file)
