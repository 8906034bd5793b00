"""`kdprobe train`: train a recipe's study, and print its folder."""

from collections.abc import Sequence
from pathlib import Path

import click

from kdprobe.commands.progress import progress
from kdprobe.train.loop import train as train_study


def train(
    recipe: str, out: Path | None, *, overrides: Sequence[str], device: str, quiet: bool
) -> None:
    """Train, with progress on stderr and the study's folder on stdout."""
    with progress(quiet) as told:
        folder = train_study(
            recipe,
            out=out,
            overrides=overrides,
            device=device,
            progress=lambda event: told(event.what, event.done, event.total),
        )
    click.echo(str(folder))
