"""Files are written whole, tables are harmless, and no torch is loaded for any of it."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from specimen import specimen

from kdprobe.errors import OutputError
from kdprobe.panels import Table
from kdprobe.report import write_report, write_tables
from kdprobe.report.tables import csv_text


def test_report_writes_what_was_asked_for(tmp_path):
    written = write_report(specimen(), tmp_path / "new", pdf=False)
    assert written == (tmp_path / "new" / "report.html",)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]


def test_named_tables_become_csv(tmp_path):
    written = write_tables(specimen(), tmp_path)
    names = {file.name for file in written}
    assert {"verdicts.csv", "runs.csv", "fidelity.csv", "provenance.csv"} <= names
    with (tmp_path / "tables" / "runs.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert rows[0]["accuracy"] == "0.923"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_formulas_are_text(text):
    table = Table(title="t", columns=("a", text), rows=((text, -1.5),))
    head, row = list(csv.reader(csv_text(table).splitlines()))
    assert head == ["a", f"'{text}"]
    assert row == [f"'{text}", "-1.5"]


def test_tables_of_one_name_do_not_overwrite_each_other(tmp_path):
    results = specimen()
    table = Table(title="t", columns=("a",), rows=((1,),), name="../Runs")
    metric = results.metrics[0].model_copy(update={"panels": (table, table)})
    written = write_tables(results.model_copy(update={"metrics": (metric,)}), tmp_path)
    names = [file.name for file in written]
    assert len(names) == len({name.lower() for name in names})
    assert all(file.parent == tmp_path / "tables" for file in written)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("here")
    with pytest.raises(OutputError, match=r"cannot write .*taken"):
        write_report(specimen(), tmp_path / "taken", pdf=False)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    old = tmp_path / "report.html"
    old.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_report(specimen(), tmp_path, pdf=False)
    assert old.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_report_needs_no_torch_and_draws_late():
    code = (
        "import sys, kdprobe.report\n"
        "heavy = {'torch', 'matplotlib', 'seaborn', 'plotly', 'typst', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "import kdprobe.report.html\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import kdprobe.report.pdf\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
