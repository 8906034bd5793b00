"""The tables of a comparison as files: CSV always, Parquet where pyarrow is installed."""

import csv
from pathlib import Path

import pytest
from comparable import results

from kdprobe.comparing.comparison import compare
from kdprobe.comparing.record import Comparison
from kdprobe.errors import UsageError
from kdprobe.report import parquet
from kdprobe.report.comparison import write_comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([results("old"), results("new", gains={"kd": -0.05}, chance=1)])


def written(comparison: Comparison, folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in write_comparison(comparison, folder)}


def test_every_table_is_also_parquet(comparison, tmp_path):
    reader = pytest.importorskip("pyarrow.parquet")
    files = written(comparison, tmp_path)
    tables = {Path(file).stem for file in files if file.endswith(".csv")}
    assert tables == {Path(file).stem for file in files if file.endswith(".parquet")}
    assert {"sides", "differences", "values", "ranking", "verdicts"} <= tables
    read = reader.read_table(tmp_path / "tables" / "differences.parquet")
    assert read.column("difference").to_pylist() == [d.effect for d in comparison.differences]
    types = dict(zip(read.column_names, map(str, read.schema.types), strict=True))
    assert (types["side"], types["low"], types["seeds"]) == ("string", "double", "int64")
    with (tmp_path / "tables" / "differences.csv").open() as file:
        assert next(csv.reader(file)) == read.column_names


def test_without_pyarrow_there_is_csv_alone(comparison, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    endings = {Path(file).suffix for file in written(comparison, tmp_path)}
    assert endings == {".html", ".json", ".csv"}
    with pytest.raises(UsageError, match=r"found no pyarrow.*kdprobe\[parquet\]"):
        write_comparison(comparison, tmp_path, parquet=True)
