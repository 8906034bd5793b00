"""`kdprobe report`: draw results again. Imports no torch."""

from pathlib import Path

import click

from kdprobe.report import write_report, write_tables
from kdprobe.results import read_results


def report(results: Path, out: Path | None, *, html: bool, pdf: bool) -> None:
    """Write the pages and tables of `results` into `out`, and print the files."""
    found = read_results(results)
    folder = out or (results if results.is_dir() else results.parent)
    write_tables(found, folder)
    for file in write_report(found, folder, html=html, pdf=pdf):
        click.echo(str(file))
