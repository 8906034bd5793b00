"""Whole analyses of poor data and broken networks: every measure answers, or says why it cannot."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from handmade import FAST, RUNS, run, write_study
from safetensors.torch import load_file, save_file

import kdprobe
from kdprobe.datasets.contract import Images
from kdprobe.metrics.contract import METRICS
from kdprobe.report import write_report
from kdprobe.results import Results

SIDE, CLASSES = 16, tuple("0123456789")


def images(split: str, kind: str, count: int = 12) -> Images:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, 3, SIDE, SIDE, generator=chance)
    objects = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    objects[:, 4:12, 4:12] = True
    labels = torch.arange(count) % 10
    if kind == "one class":
        labels = torch.zeros_like(labels)
    if kind == "equal":
        pixels = pixels[:1].expand_as(pixels).clone()
    return Images(pixels, labels, CLASSES, None if kind == "no masks" else objects)


def analysed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, runs=RUNS, **more
) -> Results:
    monkeypatch.setitem(sys.modules, "odd_data", sys.modules[__name__])
    data = {"factory": "odd_data:images", "arguments": {"kind": kind, **more}}
    study = write_study(folder / "study", runs, data=data, epochs=(0, 1, 2))
    return measured(study, folder)


def measured(study: Path, folder: Path) -> Results:
    return kdprobe.analyze(
        study,
        out=folder / "out",
        images=4,
        device="cpu",
        settings=FAST,
        allow_code=("odd_data",),
        report=False,
    )


def untold(results: Results) -> list[str]:
    """Metrics that are missing, or have neither numbers and panels nor a sentence."""
    json.loads(results.to_json(), parse_constant=pytest.fail)
    reports = {report.key: report for report in results.metrics}
    return [
        key
        for key in METRICS
        if key not in reports
        or (reports[key].status == "measured" and not (reports[key].panels and reports[key].values))
        or (reports[key].status != "measured" and len(reports[key].reason.split()) < 4)
    ]


def slow(value: Any) -> Any:
    """A case that only `make slow` tries: each is a whole analysis."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", ["one class", *(slow(kind) for kind in ("equal", "no masks"))])
def test_poor_data(tmp_path, monkeypatch, kind):
    results = analysed(tmp_path, monkeypatch, kind)
    assert untold(results) == []
    write_report(results, tmp_path, pdf=kind == "one class")


@pytest.mark.parametrize("count", [2, *map(slow, (1, 3, 5))])
def test_few_images(tmp_path, monkeypatch, count):
    assert untold(analysed(tmp_path, monkeypatch, "plain", count=count)) == []


@pytest.mark.parametrize(
    "runs",
    [
        slow(RUNS[:1]),
        slow(RUNS[1:]),
        (RUNS[0], RUNS[2]),
        slow((RUNS[0], RUNS[1])),
        (RUNS[2],),
        slow((RUNS[0], run("b", "baseline", seed=0), run("s", seed=1))),
        slow((*RUNS, run("c", "control", arm="smooth", seed=0))),
    ],
    ids=["a teacher", "no teacher", "no baseline", "no student", "alone", "no pair", "a control"],
)
def test_incomplete_studies(tmp_path, monkeypatch, runs):
    assert untold(analysed(tmp_path, monkeypatch, "plain", runs)) == []


@pytest.mark.slow
@pytest.mark.parametrize("who", ["t", "s"])
def test_a_network_that_answers_everything_alike(tmp_path, monkeypatch, who):
    """All its weights are zero: constant layers, and no slope anywhere."""
    analysed(tmp_path, monkeypatch, "plain")
    study = tmp_path / "study"
    for file in (study / who).iterdir():
        save_file({name: 0 * value for name, value in load_file(file).items()}, file)
    assert untold(measured(study, tmp_path)) == []


def test_a_teacher_of_other_classes_is_left_out_and_the_rest_is_measured(tmp_path, monkeypatch):
    network = {"name": "resnet8", "num_classes": 7, "arguments": {"width": 2}}
    results = analysed(
        tmp_path, monkeypatch, "plain", (run("t", "teacher", network=network), *RUNS[1:])
    )
    assert untold(results) == []
    assert [problem.subject for problem in results.problems if problem.left_out][:1] == ["t"]
    assert results.metric("accuracy").status == "measured"
