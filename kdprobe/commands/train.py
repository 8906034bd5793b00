"""`kdprobe train`: train a recipe's study, and print its folder."""

from collections.abc import Sequence
from pathlib import Path

import click

from kdprobe.commands.progress import progress
from kdprobe.train.loop import train as train_study
from kdprobe.train.place import Progress


def train(
    recipe: str, out: Path | None, *, overrides: Sequence[str], device: str, quiet: bool
) -> None:
    """Train, with progress on stderr and the study's folder on stdout."""
    idle = True
    with progress(quiet) as told:

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
        )
    if idle and not quiet:
        click.echo("already finished: nothing to train; --out FOLDER trains it anew", err=True)
    click.echo(str(folder))
