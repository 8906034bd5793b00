"""Controls stand wherever roles are known, and the first screen says what they leave."""

import csv
import io

import pytest
from pypdf import PdfReader
from specimen import specimen
from specimen_controls import KEPT, LOST, RANDOM, SMOOTH, controlled
from test_page import Reader
from test_paper import words

from kdprobe.report.headline import headline
from kdprobe.report.html import page
from kdprobe.report.pdf import pdf
from kdprobe.report.tables import write_tables
from kdprobe.results import Verdict

LACK = "The study has no control arm"


@pytest.fixture(scope="module")
def text() -> str:
    return page(controlled())


def rulings(claim: str) -> dict[str, tuple[str, ...]]:
    found = {entry.code: entry for entry in headline(controlled()).claims}
    return {ruling.arm: ruling.notes for ruling in found[claim].rulings}


def test_a_note_is_told_once_a_student_with_its_layers():
    assert rulings("H1") == {"kd": (f"stage2, stage3: {LOST}",), "feature": (f"logits: {KEPT}",)}
    assert rulings("H3")["kd"] == (LOST,), "of all layers, so no layer is named"
    assert rulings("H2")["feature"] == ()


def test_the_first_screen_says_what_the_controls_leave(text):
    first = text.split('<section id="verdicts"')[0]
    shown = " ".join("".join(Reader(first).text).split())
    for claim in headline(controlled()).claims:
        for ruling in claim.rulings:
            assert all(note in shown for note in ruling.notes)
    assert shown.count("tells knowledge from regularisation") == 2, "of two arms without accuracy"


def test_every_verdict_tells_of_every_control(text):
    evidence = text.split('<section id="verdicts"')[1].split("<section ")[0]
    shown = " ".join("".join(Reader(evidence).text).split())
    judged = [verdict for verdict in controlled().verdicts if verdict.seeds]
    assert shown.count(f"Against {SMOOTH} (3 seeds), ") == len(judged)
    assert shown.count(f"Against {RANDOM} (3 seeds), ") == len(judged)
    noted = [verdict for verdict in judged if verdict.control_note]
    assert shown.count(LOST) + shown.count(KEPT) == len(noted) > 0
    assert "<b>random" not in text


def test_controls_have_colours_of_their_own_on_the_page(text):
    for name in ("--control-0", "--control-1"):
        assert f"background:var({name})" in text
        assert f"var({name}-band)" in text
    assert '"dash":1' in text.split("With controls", 1)[1], "told apart without colours too"


def test_the_pdf_says_it_too():
    found = pdf(controlled())
    told = words(found)
    first = "".join(page.extract_text() for page in PdfReader(io.BytesIO(found)).pages[:2])
    assert "Notsupportedagainstcontrol" in "".join(first.split())
    for sentence in (LOST, KEPT, f"Against {SMOOTH} (3 seeds), undecided: It is undecided."):
        assert sentence.replace(" ", "") in told


def test_the_table_names_what_every_estimate_is_against(tmp_path):
    write_tables(controlled(), tmp_path)
    with (tmp_path / "tables" / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sides = {row["against"] for row in rows}
    assert sides == {"baseline", f"control {SMOOTH}", f"control {RANDOM}"}
    assert len(rows) == 3 * sum(row["against"] == "baseline" for row in rows)
    assert all(row["robust"] == "" for row in rows if row["against"] != "baseline")
    with (tmp_path / "tables" / "runs.csv").open(newline="", encoding="utf-8") as file:
        roles = [row["role"] for row in csv.DictReader(file)]
    assert roles.count("control") == 6


def test_that_no_control_was_there_is_said_once():
    told = [entry for entry in headline(specimen()).attention if entry.subject == LACK]
    assert [entry.what for entry in told] == ["so regularisation cannot be told from knowledge"]
    assert page(specimen()).count(LACK) == 1
    assert LACK not in page(controlled())


def test_where_nothing_was_judged_no_control_is_missed():
    def unjudged(verdict: Verdict) -> Verdict:
        return verdict.model_copy(update={"outcome": "not applicable"})

    found = specimen()
    verdicts = tuple(unjudged(verdict) for verdict in found.verdicts)
    for changes in ({"verdicts": ()}, {"verdicts": verdicts}):
        top = headline(found.model_copy(update=changes))
        assert LACK not in {entry.subject for entry in top.attention}


def test_without_controls_nothing_is_printed_of_them():
    assert "Against " not in page(specimen())


def test_controls_are_measured_against_the_baseline():
    arms = {arm.name: arm for arm in headline(controlled()).arms}
    assert (arms[SMOOTH].role, arms[SMOOTH].runs, arms[SMOOTH].tally) == ("control", 3, ())
    found = controlled()
    values = {"runs": [{"run": "baseline-seed0", "accuracy": 0.5}]}
    values["runs"] += [{"run": f"{SMOOTH}-seed0", "accuracy": 0.75}]
    metrics = [
        metric.model_copy(update={"values": values}) if metric.key == "accuracy" else metric
        for metric in found.metrics
    ]
    top = headline(found.model_copy(update={"metrics": tuple(metrics)}))
    assert {arm.name: arm.gain for arm in top.arms}[SMOOTH] == 0.25
