"""How soon does a reader see something?  First paint of the demo's page, and its parts in bytes."""

import gzip
import os
import re
import sys
from pathlib import Path

import pytest

from kdprobe.report.html import page
from kdprobe.results import Results, read_results

REPORT = Path(__file__).parents[1] / "report"
DEMO = Path(os.environ.get("KDPROBE_RESULTS", "reports/demo/results.json"))
TRIES = 5
PAINT = "() => performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"
PARTS = {
    "plotly": r'<script type="application/octet-stream" id="plotly".*?</script>',
    "figures as data": r"<script type=\"application/json\" data-plot=.*?</script>",
    "sketches": r'<div class="plot".*?</div>',
    "pictures": r'"data:image/[^"]*"',
    "galleries": r'<script type="application/json" class="viewed">.*?</script>',
    "tables": r"<table.*?</table>",
    "style": r"<style>.*?</style>",
    "scripts": r"<script>.*?</script>",
}

pytestmark = pytest.mark.bench


def results() -> Results:
    """Of the demo, where it has been analysed; else the specimen of the report's tests."""
    if DEMO.exists():
        return read_results(DEMO)
    from specimen import specimen

    return specimen()


def test_first_paint_and_size(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(REPORT), *sys.path])
    from browsing import chromium, shown

    text = page(results())
    report = tmp_path / "report.html"
    report.write_text(text, encoding="utf-8")
    print(f"\nthe page: {len(text.encode()):,} bytes, {len(gzip.compress(text.encode())):,} packed")
    for name, pattern in PARTS.items():
        size = sum(len(part.encode()) for part in re.findall(pattern, text, re.DOTALL))
        print(f"  {name}: {size:,} bytes")
    with chromium() as browser:
        for _ in range(TRIES):
            with shown(browser, report, viewport={"width": 1280, "height": 900}) as view:
                ready = view.evaluate("performance.now()")
                (paint,) = view.evaluate(PAINT)
                print(f"  first contentful paint {paint:.0f} ms, all figures drawn {ready:.0f} ms")
