"""Which networks were looked at, and how accurate are they?"""

from kdprobe.panels import Panel, Table
from kdprobe.report.accuracies import Accuracy, accuracies
from kdprobe.report.sections.contract import section
from kdprobe.results import Results, RunSummary

COLUMNS = ("run", "role", "arm", "seed", "model", "parameters", "checkpoints", "accuracy", "digest")


@section("runs", title="Runs and accuracies", place=20)
def runs(results: Results) -> list[Panel]:
    """One row a network."""
    known = accuracies(results)
    rows = tuple(_row(run, known.get(run.id)) for run in results.study.runs)
    how = "Checkpoints are the epochs that were read; the digest is of the compared one."
    return [Table(title="Networks", how_to_read=how, columns=COLUMNS, rows=rows, name="runs")]


def _row(run: RunSummary, accuracy: Accuracy | None) -> tuple[str | int | float | None, ...]:
    epochs = ", ".join(map(str, run.epochs))
    facts = (run.id, run.role, run.arm, run.seed, run.model, run.parameters)
    return (*facts, epochs, accuracy.share if accuracy else None, run.digest[:12])
