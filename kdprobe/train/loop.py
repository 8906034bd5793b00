"""From a recipe to a study of checkpoints: first the teacher, then the arms of each seed.

Killed at any moment and started again, it goes on, and ends with the same bits on the same machine
and number of threads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.datasets.contract import Images
from kdprobe.device import choose_device, repeatable
from kdprobe.errors import InputError, UnknownName
from kdprobe.loading import load_images
from kdprobe.train import records
from kdprobe.train.adopting import adopt
from kdprobe.train.boards import summary_writer
from kdprobe.train.cohort import first_batch, learner_of, train_cohort
from kdprobe.train.corrupting import corrupted
from kdprobe.train.holding import held_out
from kdprobe.train.learner import Learner
from kdprobe.train.memory import must_have_room
from kdprobe.train.place import Place, Progress
from kdprobe.train.plan import Cohort, RunPlan, cohorts, data_entry
from kdprobe.train.processes import Processes, joined, own_device
from kdprobe.train.ranking import write_search
from kdprobe.train.recipe import Recipe, load_recipes, settle
from kdprobe.train.sources import untrained_view
from kdprobe.train.views import Share


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    tensorboard: bool = False,
) -> Path:
    """Train the study of `recipe`, or go on with it where it was interrupted.

    Under `torchrun` all processes train as one; see `kdprobe.train.processes`. The studies of a
    sweep are trained one after another, each in a folder of its name.

    Args:
        recipe: a packaged recipe's name, a TOML file, or a Recipe.
        out: the study's folder; default ``checkpoints/<the recipe's name>``.
        overrides: ``key.path=value`` each, on top of the recipe.
        device: see `choose_device`.
        progress: called after every optimiser step of a cohort.
        tensorboard: write the numbers of every epoch for TensorBoard too (needs the extra).

    Returns:
        The study's folder, which `load_study` reads; of a sweep the folder around its studies.

    Raises:
        RecipeError: the recipe has faults; all of them are named.
        InputError: the folder holds another study, a loss does not fit its networks, there is too
            little memory, or training diverged.
        OutputError: a file cannot be written.
        UsageError: TensorBoard is asked for and not installed.
    """
    studies = recipes_of(recipe, overrides)
    if tensorboard:
        summary_writer()  # before anything is written
    where = own_device(choose_device(device))
    with joined(where) as processes:
        for folder, settled in folders_of(recipe, studies, out).items():
            _train_study(settled, folder, where, progress or _silent, processes, tensorboard)
    return home_of(recipe, studies, out)


def _train_study(
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    progress: Callable[[Progress], None],
    processes: Processes,
    boards: bool,
) -> None:
    if processes.writes:
        records.claim(folder, recipe)
    processes.wait()
    waiting = [plan for plan in cohorts(recipe) if not records.finished(folder, plan)]
    if waiting:
        place = replace(placed(recipe, folder, device, progress, processes), boards=boards)
        if processes.writes:
            adopt(place)
        processes.wait()
        with repeatable():
            rehearse(place)
            for plan in waiting:
                train_cohort(place, plan)
    if processes.writes:
        records.forget_state(folder)
        if recipe.search is not None:
            write_search(folder, recipe.search)


def recipes_of(recipe: str | Path | Recipe, overrides: Sequence[str]) -> dict[str, Recipe]:
    """The studies of a recipe by name; a single one is called "".

    Raises RecipeError, UnknownName or InputError.
    """
    if isinstance(recipe, Recipe):
        raw = recipe.model_dump(mode="json")
        return {"": settle(raw, overrides, title=f"recipe {recipe.name}")}
    return load_recipes(recipe, overrides)


def home_of(
    recipe: str | Path | Recipe, studies: Mapping[str, Recipe], out: str | Path | None
) -> Path:
    """The folder of a recipe: of its one study, or around those of its sweep."""
    if out is not None:
        return Path(out)
    alone = studies.get("")
    name = alone.name if alone else Path(str(recipe)).stem
    return Path("checkpoints") / name


def folders_of(
    recipe: str | Path | Recipe, studies: Mapping[str, Recipe], out: str | Path | None
) -> dict[Path, Recipe]:
    """Where each study of a recipe is trained."""
    home = home_of(recipe, studies, out)
    return {home / name if name else home: study for name, study in studies.items()}


def _silent(event: Progress) -> None:
    pass


def placed(
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    progress: Callable[[Progress], None],
    processes: Processes | None = None,
) -> Place:
    """The data of a recipe on their device, parted and corrupted.

    Raises:
        InputError: the data cannot be read, or do not fit the recipe.
    """
    train_set, test_set = (load_images(data_entry(recipe), split) for split in ("train", "test"))
    if train_set.classes != test_set.classes:
        raise InputError(
            f"data set {recipe.data.name!r} has {len(train_set.classes)} classes in training and "
            f"{len(test_set.classes)} in test; wanted the same ones: correct the data set"
        )
    seed = int(data_entry(recipe).arguments["seed"])  # type: ignore[arg-type]  # faults.py checked
    kept, held = held_out(train_set.labels, recipe.data.validation, seed)
    whole = _share(train_set, kept, device)
    taken = corrupted(train_set.labels[kept], len(train_set.classes), recipe.data.corrupt, seed)
    changed = Share(
        whole.pixels,
        kept[taken.rows].to(device),
        taken.labels.to(device),
        whole.clean[taken.rows.to(device)],
    )
    mean, std = _colours(recipe, train_set.pixels, kept)
    data = {split: _noted(part) for split, part in (("train", train_set), ("test", test_set))}
    data["parts"] = {
        "training": len(changed),
        "validation": len(held),
        "relabelled": int((changed.labels != changed.clean).sum()),
        "validation_rows_sha256": records.digest_of_rows(held),
    }
    return Place(
        recipe=recipe,
        folder=folder,
        device=device,
        train=changed,
        whole=whole,
        validation=Share(whole.pixels, held.to(device), *_twice(train_set.labels[held], device))
        if len(held)
        else None,
        test=_share(test_set, torch.arange(len(test_set)), device),
        names=train_set.classes,
        mean=mean,
        std=std,
        facts={"data": data, "environment": records.environment(device)},
        progress=progress,
        processes=processes or Processes(),
    )


def _share(images: Images, rows: Tensor, device: torch.device) -> Share:
    labels = images.labels[rows]
    return Share(images.pixels.to(device), rows.to(device), *_twice(labels, device))


def _twice(labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Labels as they are given, and the true ones: the same here."""
    moved = labels.to(device)
    return moved, moved


def _noted(images: Images) -> dict[str, Any]:
    return {"images": len(images), "sha256": images.digest()}


def _colours(
    recipe: Recipe, pixels: Tensor, rows: Tensor
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: the recipe's, or measured to four digits."""
    mean, std = recipe.data.mean, recipe.data.std
    if mean is None or std is None:
        measured = pixels[rows].double()
        mean = mean or tuple(measured.mean((0, 2, 3)).tolist())
        std = std or tuple(measured.std((0, 2, 3), correction=0).clamp_min(1e-4).tolist())
    return tuple(round(value, 4) for value in mean), tuple(round(value, 4) for value in std)


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
