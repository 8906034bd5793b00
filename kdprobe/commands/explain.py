"""`kdprobe explain`: the maps of every network for chosen images, as one picture file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kdprobe.explaining import explain as draw


def explain(
    study: Path,
    images: Sequence[str],
    out: Path,
    *,
    settings: Mapping[str, Mapping[str, Any]],
    **choices: Any,
) -> None:
    """Write the picture and print its path."""
    click.echo(str(draw(study, images, out=out, settings=settings, **choices)))
