"""`kdprobe report`: draw results again. Imports no torch but where it logs to TensorBoard."""

from pathlib import Path

import click

from kdprobe.errors import UsageError
from kdprobe.files import write_whole
from kdprobe.report import write_report, write_tables
from kdprobe.report.tracking import library, log_results
from kdprobe.results import Results, read_results


def report(
    results: Path, out: Path | None, *, html: bool, pdf: bool, log_to: str | None = None
) -> None:
    """Write the pages and tables of `results` into `out`, and print the files."""
    if log_to:
        library(log_to)  # a fault of the request is told before the work
    found = read_results(results)
    folder = out or (results if results.is_dir() else results.parent)
    if log_to:
        _beside(found, folder)
    write_tables(found, folder)
    for page, paper in ((html, False), (False, pdf)):  # what stands is told, whatever comes next
        for file in write_report(found, folder, html=page, pdf=paper):
            click.echo(str(file))
    if log_to:
        log_results(found, folder, log_to)


def _beside(found: Results, folder: Path) -> None:
    """Lay the numbers beside the report, so that they go along; never over those of another."""
    file, text = folder / "results.json", found.to_json()
    if file.exists() and read_results(file).to_json() != text:
        raise UsageError(
            f"found other results in {file}; wanted those that are logged, or none; choose a "
            "folder for the report by --out"
        )
    write_whole(file, text.encode())
