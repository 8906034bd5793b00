"""`kdprobe train`: train a recipe's study, and print its folder; or say what it would cost."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from kdprobe.commands.progress import progress
from kdprobe.commands.tables import print_json, print_table
from kdprobe.device import choose_device
from kdprobe.train.estimating import RunCost, estimated
from kdprobe.train.loop import folders_of, recipes_of
from kdprobe.train.loop import train as train_study
from kdprobe.train.place import Progress


def train(
    recipe: str,
    out: Path | None,
    *,
    overrides: Sequence[str],
    device: str,
    tensorboard: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train, with progress on stderr and the study's folder on stdout.

    Of several processes only the first one talks.
    """
    idle, first = True, os.environ.get("RANK", "0") == "0"
    with progress(quiet or not first) as told:

        def step(event: Progress) -> None:
            nonlocal idle
            idle = False
            told(event.what, event.done, event.total)

        folder = train_study(
            recipe,
            out=out,
            overrides=overrides,
            device=device,
            progress=step,
            tensorboard=tensorboard,
        )
    if not first:
        return
    if idle and not quiet:
        click.echo("already finished: nothing to train; --out FOLDER trains it anew", err=True)
    if as_json:
        print_json({"folder": str(folder)})
    else:
        click.echo(str(folder))


def dry_run(
    recipe: str, out: Path | None, *, overrides: Sequence[str], device: str, as_json: bool
) -> None:
    """Print every run with its steps, time, memory and disk; nothing is trained or written."""
    where = choose_device(device)
    studies = folders_of(recipe, recipes_of(recipe, overrides), out)
    costs = {folder: estimated(study, where) for folder, study in studies.items()}
    if as_json:
        rows = costs.items()
        print_json({str(folder): [asdict(cost) for cost in found] for folder, found in rows})
        return
    for folder, found in costs.items():
        print_table(str(folder), _HEAD, [_row(cost) for cost in found])
    every = [cost for found in costs.values() for cost in found]
    seconds, size = sum(cost.seconds for cost in every), sum(cost.bytes for cost in every)
    click.echo(
        f"{len(every)} runs, {sum(cost.steps for cost in every)} steps, about "
        f"{_spoken(seconds)} on {where}, {size / 1e6:.1f} MB on disk"
    )


_HEAD = ("run", "network", "parameters", "epochs", "steps", "time", "MB memory", "MB disk")


def _row(cost: RunCost) -> tuple[str, ...]:
    numbers = (f"{cost.parameters:,}", str(cost.epochs), f"{cost.steps:,}")
    sizes = (f"{size / 1e6:.1f}" for size in (cost.memory, cost.bytes))
    return (cost.run, cost.network, *numbers, _spoken(cost.seconds), *sizes)


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
