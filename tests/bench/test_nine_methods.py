"""Is a distilled student better than one that learned alone?  The packaged nine methods, measured.

Prints accuracies on the test images at the last epoch, and each method's gain over the baseline of
the same seed with its standard error. It is a measurement, not a law: nothing is asserted of it.

On photodigits with the recipe's seeds; with one seed on photographs too, where they are at hand:
    KDPROBE_CIFAR10           a folder of CIFAR-10 as images, train/CLASS/*.jpg and test/CLASS/*.jpg
    KDPROBE_CIFAR10_RECIPE    instead of nine-methods; nine-methods-full wants a GPU
    KDPROBE_CIFAR10_SHARE     of the training images and of the held-out ones, such as 0.05, for a
                              quick look
"""

import json
import os
from pathlib import Path
from statistics import fmean, stdev

import pytest

from kdprobe.train.loop import train
from kdprobe.train.recipe import Recipe, load_recipe, settle

CIFAR10 = os.environ.get("KDPROBE_CIFAR10", "")
ARMS = pytest.mark.parametrize("arms", [["baseline", "kd"], None], ids=["kd", "all nine"])


def accuracies(folder: Path, arm: str, seeds: tuple[int, ...]) -> list[float]:
    """At the last epoch, of the run that is reported, in percent."""
    index = json.loads((folder / "study.json").read_text())["runs"]
    runs = [next(run for run in index if f"{run}.".startswith(f"{arm}-seed{s}.")) for s in seeds]
    records = [json.loads((folder / run / "run.json").read_text()) for run in runs]
    return [100 * record["reported"]["last"]["test_accuracy"] for record in records]


def table(folder: Path, arms: list[str], seeds: tuple[int, ...]) -> list[str]:
    """A line an arm: mean over seeds, gain over the first arm, error of the gain."""
    found = {arm: accuracies(folder, arm, seeds) for arm in arms}
    base = found[arms[0]]
    lines = []
    for arm, values in found.items():
        gains = [value - other for value, other in zip(values, base, strict=True)]
        spread = f"+- {stdev(gains) / len(gains) ** 0.5:.2f}" if len(gains) > 1 else "(one seed)"
        lines.append(f"  {arm:10} {fmean(values):6.2f} %   gain {fmean(gains):+6.2f} {spread}")
    return lines


def on_photographs(folder: str) -> Recipe:
    """The recipe on the image folders of CIFAR-10, one seed."""
    recipe = load_recipe(os.environ.get("KDPROBE_CIFAR10_RECIPE", "nine-methods"))
    raw, share = recipe.model_dump(mode="json"), os.environ.get("KDPROBE_CIFAR10_SHARE", "")
    raw |= {"seeds": raw["seeds"][:1], "checkpoints": [0, recipe.optimizer.epochs]}
    raw["teacher"]["checkpoints"] = [0, recipe.teacher.epochs or recipe.optimizer.epochs]
    raw["data"] |= {"name": "folder", "arguments": {"folder": folder, "size": 32}}
    if share:
        raw["data"]["corrupt"] = [f"fraction(share={share})"]
        raw["data"]["validation"] *= float(share)
    return settle(raw, title="nine methods on photographs")


def told(recipe: Recipe, arms: list[str] | None, out: Path) -> str:
    """Train the arms (None: all) and give their table."""
    raw = recipe.model_dump(mode="json")
    chosen = arms or list(raw["arms"])
    raw["arms"] = {name: raw["arms"][name] for name in chosen}
    recipe = settle(raw, title="nine methods")
    folder = train(recipe, out=out)
    parts = json.loads((folder / f"baseline-seed{recipe.seeds[0]}" / "run.json").read_text())
    images = parts["data"]["parts"]["training"]
    assert len(list(folder.glob("kd-seed*"))) == len(recipe.seeds)
    head = (
        f"{recipe.data.name}, {images:,} training images, {len(recipe.seeds)} seeds, "
        f"{recipe.optimizer.epochs} epochs, {recipe.arms['kd'].model.name}"
    )
    return "\n".join(["", head, *table(folder, chosen, recipe.seeds)])


@pytest.mark.bench
@ARMS
def test_gains_over_the_baseline(
    arms: list[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(load_recipe("nine-methods"), arms, tmp_path)
    with capsys.disabled():
        print(lines)


@pytest.mark.bench
@pytest.mark.skipif(not CIFAR10, reason="KDPROBE_CIFAR10 names no folder of images")
@ARMS
def test_gains_on_photographs(
    arms: list[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told(on_photographs(CIFAR10), arms, tmp_path)
    with capsys.disabled():
        print(lines)
