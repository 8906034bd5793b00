"""Names without end, one run, forty runs, no image: on the page, on paper and in a notebook."""

import io
from typing import Any

import pytest
from browsing import shown
from hostile import LONG, renamed
from plain import metric_report
from pypdf import PdfReader
from specimen import specimen
from specimen_gallery import viewer

from kdprobe.panels import Gallery, Overlays
from kdprobe.report.headline import headline
from kdprobe.report.html import page
from kdprobe.report.notebook import fragment
from kdprobe.report.pdf import pdf
from kdprobe.results import Results

PHONE = {"width": 360, "height": 740}


def of_runs(count: int) -> Results:
    """`count` runs: a teacher, then baselines and students of kd by turns, each seed once."""
    whole = specimen()
    teacher, like = whole.study.runs[0], {run.arm: run for run in whole.study.runs}
    runs = [teacher]
    for number in range(count - 1):
        seed, arm = number // 2, ("baseline", "kd")[number % 2]
        runs.append(like[arm].model_copy(update={"id": f"{arm}-seed{seed}", "seed": seed}))
    shares = [
        {"run": run.id, "accuracy": 0.8 + 0.001 * place, "error": 0.01}
        for place, run in enumerate(runs)
    ]
    study = whole.study.model_copy(update={"runs": tuple(runs)})
    accuracy = metric_report("accuracy", values={"runs": shares})
    return whole.model_copy(update={"study": study, "metrics": (accuracy,), "verdicts": ()})


def without_images() -> Results:
    empty = (
        viewer(1).model_copy(update={"pictures": ()}),
        Gallery(title="None", layer="logits", pictures=()),
        Overlays(title="None", pictures=()),
    )
    bare = metric_report("concepts", panels=empty)
    return specimen().model_copy(update={"metrics": (bare,), "verdicts": ()})


CASES: dict[str, Any] = {
    "names of 10,000 letters": lambda: renamed(LONG),
    "one run": lambda: of_runs(1),
    "forty runs": lambda: of_runs(40),
    "no image": without_images,
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_fits_a_phone(browser, tmp_path, case):
    file = tmp_path / "report.html"
    file.write_text(page(CASES[case]()), encoding="utf-8")
    with shown(browser, file, until="footer", viewport=PHONE) as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert opened.locator("#summary h1").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_paper_and_notebook_hold_it(case):
    results = CASES[case]()
    sheets = PdfReader(io.BytesIO(pdf(results))).pages
    text = "".join(sheet.extract_text() for sheet in sheets).replace(" ", "")
    assert headline(results).facts.split(" ")[0] in text
    assert len(sheets) < 100
    assert headline(results).arms[0].name[:20] in fragment(results)


def test_forty_runs_are_counted_and_judged_by_all_their_pairs():
    top = headline(of_runs(40))
    kd = next(arm for arm in top.arms if arm.name == "kd")
    assert top.facts.startswith("40 runs")
    assert (kd.runs, kd.pairs) == (19, 19)
    assert kd.gain == pytest.approx(0.001)


@pytest.mark.slow
def test_names_without_end_are_drawn_without_a_word(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(renamed(LONG)), encoding="utf-8")
    with shown(browser, file, viewport=PHONE, color_scheme="dark") as opened:
        assert opened.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert opened.locator(".plot:not([data-drawn=true])").count() == 0
