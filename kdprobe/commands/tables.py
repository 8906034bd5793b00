"""Tables and JSON on stdout, for people and for programs."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 140  # columns, where there is no terminal to ask
STYLES = {
    "supported": "green",
    "contradicted": "red",
    "undecided": "yellow",
    "not applicable": "dim",
}


def print_json(data: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; verdict words are coloured, and no text is read as markup."""
    table = Table(
        title=Text(title, style="bold"), title_justify="left", header_style="bold", box=SIMPLE_HEAD
    )
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    Console(width=width, color_system=colours).print(table)


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=STYLES.get(text.split(" (")[0], ""))
