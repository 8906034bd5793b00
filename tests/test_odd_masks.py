"""Whole analyses of masks that are empty, full, or of one image: no count is made up."""

import sys
from pathlib import Path

import pytest
import torch
from handmade import FAST, run, write_study

import kdprobe
from kdprobe.datasets.contract import Images
from kdprobe.results import Results

RUNS = tuple(
    run(f"{role}{seed}", role, seed=seed) for role in ("baseline", "student") for seed in range(3)
)
METRICS = ("concepts", "simultaneity", "stability")
SHAPES = {"full": 1.0, "empty": 0.0, "mixed": None}


def masks(split: str, kind: str, count: int = 4) -> Images:
    chance = torch.Generator().manual_seed(0)
    objects = torch.zeros(count, 16, 16, dtype=torch.bool)
    objects[:, 4:12, 4:12] = True
    if kind == "mixed":
        objects[0], objects[1:2] = True, False
    else:
        objects[:] = bool(SHAPES[kind]) if kind in SHAPES else objects
    pixels = torch.rand(count, 3, 16, 16, generator=chance)
    return Images(pixels, torch.arange(count) % 10, tuple("0123456789"), objects)


def analysed(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, **more) -> Results:
    monkeypatch.setitem(sys.modules, "odd_masks", sys.modules[__name__])
    count = more.pop("count", 4)
    data = {"factory": "odd_masks:masks", "arguments": {"kind": kind, "count": count}}
    study = write_study(folder / "study", RUNS, data=data)
    return kdprobe.analyze(
        study,
        out=folder / "out",
        metrics=METRICS,
        layers=("logits",),
        device="cpu",
        settings={"discarding": {**FAST["discarding"], **more}},
        allow_code=("odd_masks",),
    )


def counts(results: Results, side: str) -> list[float | None]:
    return results.metric("concepts").values["runs"]["student0"]["logits"][side][0]


def test_without_any_background_nothing_can_be_compared(tmp_path, monkeypatch):
    results = analysed(tmp_path, monkeypatch, "full")
    assert counts(results, "foreground") == [None] * 4
    assert counts(results, "background") == [None] * 4
    assert {verdict.outcome for verdict in results.verdicts} == {"undecided"}
    assert all(e.effect is None for verdict in results.verdicts for e in verdict.estimates)
    told = " ".join(problem.what for problem in results.problems)
    assert "4 of 4 images have no background" in told
    page = (tmp_path / "out" / "report.html").read_text()
    assert "NaN" not in page.split("<script")[0]


def test_without_any_object_there_is_no_task_relevant_concept_to_count(tmp_path, monkeypatch):
    results = analysed(tmp_path, monkeypatch, "empty")
    assert counts(results, "foreground") == [None] * 4
    assert all(count is not None for count in counts(results, "background"))
    told = " ".join(problem.what for problem in results.problems)
    assert "4 of 4 images have no object" in told
    parts = {v.claim: [e.effect for e in v.estimates] for v in results.verdicts}
    assert parts["H1"][0] is None
    assert parts["H1"][1] is not None
    assert parts["H3"] == [None]


@pytest.mark.parametrize("level", ["data", "image"])
def test_images_that_lack_a_side_are_counted_on_the_other_alone(tmp_path, monkeypatch, level):
    results = analysed(tmp_path, monkeypatch, "mixed", level=level)
    foreground, background = (counts(results, side) for side in ("foreground", "background"))
    assert (foreground[0] is None) == (level == "image"), "its own background is its reference"
    assert background[0] is None
    assert foreground[1] is None
    assert background[1] is not None
    assert None not in (*foreground[2:], *background[2:])
    row = results.metric("concepts").values["runs"]["student0"]["logits"]
    assert all(0 <= share <= 1 for share in row["foreground_area"] + row["background_area"])


def test_one_image_is_enough_and_decides_nothing(tmp_path, monkeypatch):
    results = analysed(tmp_path, monkeypatch, "some", count=1)
    assert len(counts(results, "foreground")) == 1
    assert {verdict.outcome for verdict in results.verdicts} <= {"undecided"}
    (spread,) = [
        e
        for v in results.verdicts
        for e in v.estimates
        if e.quantity == "D_var" and v.claim == "H2"
    ]
    assert spread.effect is None, "of one image there is no variance"
