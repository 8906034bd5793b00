"""What can be read by other programs?  Each named table of the report as ``tables/NAME.csv``."""

import csv
import io
import re
from pathlib import Path

from kdprobe.files import write_whole
from kdprobe.panels import Cell, Table
from kdprobe.report.document import chapters
from kdprobe.results import Results

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what begins so


def write_tables(results: Results, folder: Path) -> tuple[Path, ...]:
    """Write every named table below ``folder/tables``; equal names get a number.

    Raises:
        OutputError: a file cannot be written.
    """
    taken: set[str] = set()
    written = []
    for chapter in chapters(results):
        for panel in chapter.panels:
            if isinstance(panel, Table) and panel.name:
                name = _free(_plain(panel.name), taken)
                file = folder / "tables" / f"{name}.csv"
                written.append(write_whole(file, csv_text(panel).encode("utf-8")))
    return tuple(written)


def csv_text(table: Table) -> str:
    """The table as CSV; text that a spreadsheet would take for a formula gets a quote before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_guarded(name) for name in table.columns])
    writer.writerows([_guarded(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _guarded(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(FORMULA):
        return f"'{cell}"
    return cell


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "table"


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free.lower() in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free.lower())
    return free
