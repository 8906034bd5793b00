"""The bundled demo study is what its recipe says, and its analysis ends with a whole report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdprobe.metrics.contract import METRICS
from kdprobe.results import read_results
from kdprobe.study import load_study
from kdprobe.train.claiming import completed
from kdprobe.train.recipe import load_recipe

DEMO = Path(__file__).parent.parent / "checkpoints" / "demo"
MEGABYTE = 1_000_000


def last_line(run: Path) -> dict[str, float]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    found: dict[str, float] = json.loads(lines[-1])
    return found


def test_the_study_is_small_and_whole() -> None:
    study = load_study(DEMO)
    assert sum(f.stat().st_size for f in DEMO.rglob("*") if f.is_file()) <= 8 * MEGABYTE
    assert [len(run.checkpoints) for run in study.runs] == [8] * 10
    assert {run.entry.status for run in study.runs} == {"finished"}
    assert {arm: len(runs) for arm, runs in study.arms.items()} == {
        "baseline": 3,
        "kd": 3,
        "feature": 3,
    }
    assert len(study.pairs()) == 6
    assert study.common_epochs()[0] == 0


def test_the_study_was_made_by_the_packaged_recipe() -> None:
    recipe = load_recipe("demo").model_dump(mode="json")
    for run in load_study(DEMO).runs:
        record = json.loads((DEMO / run.id / "run.json").read_text("utf-8"))
        assert completed(record["recipe"]) == recipe


def test_arms_of_one_seed_begin_with_equal_weights() -> None:
    for student, baseline in load_study(DEMO).pairs():
        first = [run.checkpoints[0].path.read_bytes() for run in (student, baseline)]
        assert first[0] == first[1]


@pytest.mark.slow
def test_the_whole_analysis(tmp_path: Path) -> None:
    words = ["analyze", str(DEMO), "--images", "64", "--out", str(tmp_path)]  # as `make demo`
    command = [sys.executable, "-m", "kdprobe.cli", *words]
    every = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=every)
    assert ended.returncode == 0, ended.stderr
    results = read_results(tmp_path)
    assert {report.status for report in results.metrics} == {"measured"}
    assert {report.key for report in results.metrics} == set(METRICS)
    assert len(results.verdicts) == 18  # three hypotheses, two arms, three layers
    assert all(verdict.seeds == 3 for verdict in results.verdicts)
    assert not any(verdict.controls or verdict.control_note for verdict in results.verdicts)
    told = "The study has no control arm</strong>: so regularisation cannot be told from knowledge"
    assert (tmp_path / "report.html").read_text("utf-8").count(told) == 1
    assert (tmp_path / "report.html").stat().st_size <= 3.5 * MEGABYTE
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    accuracy = results.metric("accuracy")
    assert accuracy is not None
    for run in accuracy.values["runs"]:
        recorded = last_line(DEMO / run["run"])["test_accuracy"]
        assert run["accuracy"] == pytest.approx(recorded, abs=0.003)  # saved as float16
