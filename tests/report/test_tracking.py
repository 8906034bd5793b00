"""Results go into the libraries that track experiments: offline, and only when asked."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
from plain import metric_report
from specimen import specimen

from kdprobe.cli import cli
from kdprobe.commands.report import report
from kdprobe.errors import OutputError, UsageError
from kdprobe.report import tracking
from kdprobe.report.accuracies import accuracies
from kdprobe.report.tracking import LIBRARIES, library, log_results, scalars


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """What a report leaves behind; also the working folder."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    (out / "tables").mkdir(parents=True)
    (out / "report.html").write_text("<p>page")
    (out / "results.json").write_text(specimen().to_json())
    (out / "tables" / "runs.csv").write_text("run\n")
    return out


def test_scalars_are_the_numbers_of_the_results():
    found = scalars(specimen())
    for run, entry in accuracies(specimen()).items():
        assert found[f"accuracy/{run}"] == entry.share
    outcomes = [verdict.outcome for verdict in specimen().verdicts]
    assert found["verdicts/supported"] == outcomes.count("supported")
    verdict = next(one for one in specimen().verdicts if one.estimates and one.layer)
    (entry, *_) = verdict.estimates
    name = f"effect/{verdict.claim}/{verdict.arm}/{verdict.layer}/{entry.quantity}"
    assert found[tracking.UNSAFE.sub("_", name)] == entry.effect
    assert all(isinstance(value, float) for value in found.values())


def test_names_that_come_out_alike_keep_their_numbers():
    values = {"a+b": 1.0, "a*b": 2.0, "λ": 3.0}
    bare = specimen().model_copy(update={"metrics": (metric_report("m", values=values),)})
    assert {"metric/m/a_b": 1.0, "metric/m/a_b_2": 2.0, "metric/m/λ": 3.0}.items() <= scalars(
        bare
    ).items()


def test_the_numbers_of_another_analysis_are_not_written_over(folder):
    other = folder / "older.json"
    changed = specimen().model_copy(update={"kdprobe_version": "0.0"})
    other.write_text(changed.to_json())
    before = (folder / "results.json").read_bytes()
    with pytest.raises(UsageError, match=r"found other results in .*--out"):
        report(other, None, html=False, pdf=False, log_to="tensorboard")
    assert (folder / "results.json").read_bytes() == before
    assert not (folder / "tensorboard").exists()


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, kdprobe.report.tracking, kdprobe.commands.report\n"
        "assert not {'mlflow', 'wandb', 'tensorboard', 'torch'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_told_with_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, LIBRARIES[name][0], None)
    with pytest.raises(UsageError, match=f"pip install {LIBRARIES[name][1]}"):
        library(name)


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UsageError, match="found --log-to 'comet'; wanted one of mlflow, wandb"):
        library("comet")


def test_a_missing_library_is_told_before_the_work(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match="pip install wandb"):
        cli(["report", str(folder), "--log-to", "wandb"], standalone_mode=False)
    assert not (folder / "report.pdf").exists()


def test_a_tracker_that_fails_leaves_the_report_and_says_where(folder, monkeypatch):
    fake = types.SimpleNamespace(SummaryWriter=lambda where: 1 / 0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    with pytest.raises(OutputError, match=r"tensorboard could not log .*ZeroDivisionError.*out"):
        log_results(specimen(), folder, "tensorboard")


def test_tensorboard_reads_the_scalars_back(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_results(specimen(), folder, "tensorboard")
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    wanted = scalars(specimen())
    assert set(read.Tags()["scalars"]) == set(wanted)
    run = next(iter(accuracies(specimen())))
    (event,) = read.Scalars(f"accuracy/{run}")
    assert event.value == pytest.approx(wanted[f"accuracy/{run}"])


def test_mlflow_reads_them_back(folder, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_results(specimen(), folder, "mlflow")
    client = mlflow.MlflowClient(tracking_uri=(folder.parent / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("kdprobe")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == pytest.approx(scalars(specimen()))
    names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "results.json", "tables"}


def test_wandb_writes_a_run_that_can_be_sent_later(folder):
    pytest.importorskip("wandb")
    log_results(specimen(), folder, "wandb")
    (run,) = (folder.parent / "wandb").glob("offline-run-*")
    (record,) = run.glob("*.wandb")
    assert b"verdicts/supported" in record.read_bytes()
