"""What does a report cost?  Seconds and memory of page and paper, beside the analysis' own."""

import io
import os
import re
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from plain import metric_report
from pypdf import PdfReader

from kdprobe.panels import Bytes, ConceptPicture, Gallery, Table
from kdprobe.report import write_report
from kdprobe.report.pdf import FIRST_ROWS, pdf
from kdprobe.results import Results, StudySummary, read_results

DEMO = Path(os.environ.get("KDPROBE_RESULTS", "reports/demo/results.json"))
ROWS, PICTURES = 2_000, 200

pytestmark = pytest.mark.bench


def megabytes(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def large() -> Results:
    """Tables that print `ROWS` rows between them, and `PICTURES` pictures of 96 pixels."""
    rng = np.random.default_rng(0)
    rows = tuple((f"run-{i}", *rng.normal(size=6).tolist()) for i in range(FIRST_ROWS))
    columns = ("run", *"abcdef")
    tables = [Table(title=f"T{i}", columns=columns, rows=rows) for i in range(ROWS // FIRST_ROWS)]
    blank = Bytes.pack(np.zeros((96, 96)))
    pictures = tuple(
        ConceptPicture(
            name=f"image {i}",
            label="",
            pixels=Bytes.pack(rng.integers(0, 256, (96, 96, 3))),
            object=blank,
            maps=(),
        )
        for i in range(PICTURES)
    )
    panels = (*tables, Gallery(title="Pictures", layer="logits", pictures=pictures))
    metric = metric_report("large", panels=panels)
    study = StudySummary(name="large", dataset="noise", classes=(), runs=())
    return Results(kdprobe_version="0", study=study, metrics=(metric,))


def test_two_thousand_rows_and_two_hundred_pictures():
    results = large()
    start = time.perf_counter()
    made = pdf(results)
    seconds = time.perf_counter() - start
    print(f"\n{ROWS} rows, {PICTURES} pictures: {len(PdfReader(io.BytesIO(made)).pages)} pages")
    print(f"  {seconds:.1f} s, {len(made):,} bytes")
    print(f"  peak of typst's process {megabytes(resource.RUSAGE_CHILDREN):.0f} MB")
    print(f"  peak of this one {megabytes(resource.RUSAGE_SELF):.0f} MB")


@pytest.mark.skipif(not DEMO.exists(), reason="the demo has not been analysed")
def test_rendering_beside_the_analysis(tmp_path):
    results = read_results(DEMO)
    took = {}
    for name in ("html", "pdf"):
        start = time.perf_counter()
        write_report(results, tmp_path, html=name == "html", pdf=name == "pdf")
        took[name] = time.perf_counter() - start
    print("\n" + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))
    log = DEMO.with_name("run.log")
    ends = re.findall(r"finished in ([\d.]+) s", log.read_text()) if log.exists() else []
    if ends:
        longest = max(map(float, ends))
        print(f"  {sum(took.values()) / longest:.3f} of the analysis' {longest:.0f} s")
