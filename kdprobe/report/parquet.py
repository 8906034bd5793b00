"""How does a table keep its types?  As Parquet, where pyarrow is installed (kdprobe[parquet])."""

import io
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kdprobe.errors import UsageError
from kdprobe.panels import Cell, Table
from kdprobe.report.naming import apart


def available() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def parquet_bytes(table: Table) -> bytes:
    """The table as a Parquet file: int64, float64 or string by column, null where a cell is empty.

    A name that columns share gets a number. Text is kept as it is: nothing runs a formula here.

    Raises:
        UsageError: pyarrow is not installed.
    """
    if not available():
        raise UsageError(
            "found no pyarrow, wanted to write Parquet; install kdprobe[parquet], or ask for CSV "
            "alone"
        )
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    columns = [[row[place] for row in table.rows] for place in range(len(table.columns))]
    typed = [_typed(column) for column in columns]
    arrays = [arrow.array(cells, type=getattr(arrow, kind)()) for kind, cells in typed]
    file = io.BytesIO()
    parquet.write_table(arrow.table(arrays, names=apart(table.columns, " ")), file)
    return file.getvalue()


def _typed(cells: Sequence[Cell]) -> tuple[str, list[Cell]]:
    """The type that holds all of `cells`, and them in it."""
    known = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, str) for cell in known):
        return "string", [None if cell is None else str(cell) for cell in cells]
    if known and all(isinstance(cell, int) for cell in known):
        return "int64", list(cells)
    return "float64", [None if cell is None else float(cell) for cell in cells]
