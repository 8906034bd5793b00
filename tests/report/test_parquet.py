"""Tables keep their types in Parquet, read back by another library's own reader."""

import io

import pytest
from specimen import specimen

from kdprobe.errors import UsageError
from kdprobe.panels import Table
from kdprobe.report import parquet, write_tables
from kdprobe.report.parquet import parquet_bytes

TABLE = Table(
    title="t",
    columns=("run", "seed", "share", "mixed", "±", "±", "none"),
    rows=(("=kd", 0, 0.5, "a", 1, 2, None), ("b", None, 1, 2, 1.5, None, None)),
)


def test_columns_are_typed_and_nothing_is_lost():
    reader = pytest.importorskip("pyarrow.parquet")
    read = reader.read_table(io.BytesIO(parquet_bytes(TABLE)))
    assert read.column_names == ["run", "seed", "share", "mixed", "±", "± 2", "none"]
    types = ["string", "int64", "double", "string", "double", "int64", "double"]
    assert [str(kind) for kind in read.schema.types] == types
    rows = [tuple(row.values()) for row in read.to_pylist()]
    assert rows == [("=kd", 0, 0.5, "a", 1.0, 2, None), ("b", None, 1.0, "2", 1.5, None, None)]


def test_it_stands_beside_the_csv_where_it_can(tmp_path):
    pytest.importorskip("pyarrow")
    names = {file.name for file in write_tables(specimen(), tmp_path)}
    assert {name.removesuffix(".csv") for name in names if name.endswith(".csv")} == {
        name.removesuffix(".parquet") for name in names if name.endswith(".parquet")
    }
    assert parquet_bytes(TABLE) == parquet_bytes(TABLE), "the same bytes each time"


def test_without_pyarrow_there_is_csv_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    assert {file.suffix for file in write_tables(specimen(), tmp_path)} == {".csv"}
    with pytest.raises(UsageError, match=r"found no pyarrow.*kdprobe\[parquet\]"):
        write_tables(specimen(), tmp_path, parquet=True)
