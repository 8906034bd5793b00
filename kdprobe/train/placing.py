"""Where does a recipe train?  Its data on their device, parted, corrupted, and measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdprobe.datasets.contract import Images
from kdprobe.errors import InputError
from kdprobe.loading import load_images
from kdprobe.train.corrupting import corrupted
from kdprobe.train.environment import environment
from kdprobe.train.holding import held_out
from kdprobe.train.place import Place, Progress
from kdprobe.train.plan import data_entry
from kdprobe.train.processes import Processes
from kdprobe.train.records import digest_of_rows
from kdprobe.train.settings import Recipe
from kdprobe.train.views import Share


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
        "validation_rows_sha256": digest_of_rows(held),
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
        facts={"data": data, "environment": environment(device)},
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
    measured = pixels[rows].double()
    mean, std = measured.mean((0, 2, 3)), measured.std((0, 2, 3), correction=0).clamp_min(1e-4)
    return recipe.data.mean or _rounded(mean), recipe.data.std or _rounded(std)


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values.tolist())
