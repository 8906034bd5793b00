"""Is a distilled student better than one that learned alone?  The packaged nine methods, measured.

Prints accuracies on the test images at the last epoch, and each method's gain over the baseline of
the same seed with its standard error. It is a measurement, not a law: nothing is asserted of it.
"""

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

from kdprobe.train.loop import train
from kdprobe.train.recipe import load_recipe, settle


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
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
        lines.append(
            f"  {arm:10} {fmean(values):6.2f} %   gain {fmean(gains):+6.2f} +- {error:.2f}"
        )
    return lines


@pytest.mark.bench
@pytest.mark.parametrize("arms", [["baseline", "kd"], None], ids=["kd", "all nine"])
def test_gains_over_the_baseline(
    arms: list[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = load_recipe("nine-methods").model_dump(mode="json")
    chosen = arms or list(raw["arms"])
    raw["arms"] = {name: raw["arms"][name] for name in chosen}
    recipe = settle(raw, title="nine methods")
    folder = train(recipe, out=tmp_path)
    with capsys.disabled():
        print(f"\nphotodigits, {len(recipe.seeds)} seeds, {recipe.optimizer.epochs} epochs")
        print("\n".join(table(folder, chosen, recipe.seeds)))
    assert len(list(folder.glob("kd-seed*"))) == len(recipe.seeds)
