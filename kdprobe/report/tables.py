"""What can be read by other programs?  Each named table of the report as ``tables/NAME.csv``.

Where pyarrow is installed, also as ``tables/NAME.parquet``.
"""

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path

from kdprobe.files import write_whole
from kdprobe.panels import Cell, Panel, Table
from kdprobe.report.document import chapters
from kdprobe.report.naming import apart
from kdprobe.report.parquet import available, parquet_bytes
from kdprobe.results import Results

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run what begins so


def write_tables(
    results: Results, folder: Path, *, parquet: bool | None = None
) -> tuple[Path, ...]:
    """Write every named table below ``folder/tables``; equal names get a number.

    Args:
        results: whose tables.
        folder: the folder of the report.
        parquet: whether to write Parquet beside CSV; by default where pyarrow is installed, which
            is what the extra kdprobe[parquet] is for.

    Returns:
        The files that were written.

    Raises:
        UsageError: `parquet` is True and pyarrow is not installed.
        OutputError: a file cannot be written.
    """
    panels = [panel for chapter in chapters(results) for panel in chapter.panels]
    return write_named(panels, folder, parquet=parquet)


def write_named(
    panels: Iterable[Panel], folder: Path, *, parquet: bool | None = None
) -> tuple[Path, ...]:
    """Write the tables among `panels` that have a name, as `write_tables` does."""
    also = available() if parquet is None else parquet
    tables = [panel for panel in panels if isinstance(panel, Table) and panel.name]
    names = apart([_plain(table.name) for table in tables], "-", files=True)
    written = []
    for name, table in zip(names, tables, strict=True):
        place = folder / "tables"
        written.append(write_whole(place / f"{name}.csv", csv_text(table).encode("utf-8")))
        if also:
            written.append(write_whole(place / f"{name}.parquet", parquet_bytes(table)))
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
