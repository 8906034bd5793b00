"""From a recipe to a study of checkpoints: first the teacher, then the arms of each seed.

Killed at any moment and started again, it goes on, and ends with the same bits on the same machine
and number of threads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from kdprobe.device import choose_device, repeatable
from kdprobe.train import records
from kdprobe.train.adopting import adopt
from kdprobe.train.boards import summary_writer
from kdprobe.train.claiming import claim
from kdprobe.train.cohort import train_cohort
from kdprobe.train.parting import parted
from kdprobe.train.place import Progress
from kdprobe.train.placing import placed
from kdprobe.train.plan import Cohort, cohorts
from kdprobe.train.processes import Processes, joined, own_device
from kdprobe.train.ranking import write_search
from kdprobe.train.recipe import Recipe, load_recipes, settle
from kdprobe.train.rehearsing import rehearse


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
        claim(folder, recipe)
    processes.wait()
    waiting = [plan for plan in map(partial(_unfinished, folder), cohorts(recipe)) if plan.runs]
    if waiting:
        place = replace(placed(recipe, folder, device, progress, processes), boards=boards)
        if processes.writes:
            adopt(place)
        processes.wait()
        with repeatable():
            needs = rehearse(place)
            parts = [part for plan in waiting for part in parted(place, plan, needs)]
            for part in parts:  # a run that does not fit has been refused before the first
                train_cohort(place, part)
    if processes.writes:
        if (folder / "state").is_dir():
            records.write_index(folder, recipe)  # it may have been killed just before
            records.forget_state(folder)
        if recipe.search is not None:
            write_search(folder, recipe.search)


def _unfinished(folder: Path, cohort: Cohort) -> Cohort:
    """A cohort without the runs that are finished."""
    return replace(
        cohort, runs=tuple(run for run in cohort.runs if not records.finished(folder, run))
    )


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
